"""From images to labels: the one path that predictions and scores share."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atrous.core.errors import ConfigError, DataError, MachineError, UsageError
from atrous.core.labels import LabelSpace
from atrous.core.records import MessageCallback, Protocol
from atrous.crf.dense import DenseCRF, refine, require_crf_memory
from atrous.images.decode import load_image
from atrous.inference.contracts import Backend, Band, LabelBand
from atrous.inference.folders.inputs import ImageFile, convert_image, find_images, is_glob
from atrous.inference.folders.prediction import Prediction
from atrous.inference.folders.prefetch import iter_ahead
from atrous.inference.labelling.likeliest import find_likeliest
from atrous.inference.labelling.probabilities import iter_bands
from atrous.inference.labelling.source import ArrayImage, ImageSource
from atrous.inference.memory import LARGEST_WINDOW, choose_window, compute_budget_mib, count_fitting_pixels
from atrous.networks.contracts import Cells

MOST_BYTES_PER_PIXEL = 8192
"""More than any network here needs, so that images far below the memory are not measured for."""
MAX_BATCH_SIZE = 8
"""Images of a folder that go through the network as one batch on a GPU; on a CPU that gains nothing."""


class Labeller:
    """A network with everything that turns an image into labels.

    Args:
        backend: What runs the network, at the protocol's output stride and precision.
        label_space: What its classes are.
        protocol: How an image becomes labels.
        on_message: Receives messages about automatic choices and findings.
    Raises:
        ConfigError: Network and label space differ in their number of classes.
    """

    def __init__(
        self,
        backend: Backend,
        label_space: LabelSpace,
        protocol: Protocol,
        *,
        on_message: MessageCallback | None = None,
    ) -> None:
        if backend.num_classes != label_space.num_classes:
            raise ConfigError(f"the network has {backend.num_classes} classes, the data {label_space.num_classes}")
        self.backend = backend
        self.label_space = label_space
        self.protocol = protocol
        self.crf = None if protocol.crf is None else DenseCRF(**protocol.crf).to(backend.device)
        is_one_look = protocol.scales == (1.0,) and not protocol.flip and protocol.window is None and self.crf is None
        self._answers_ahead = is_one_look and not backend.labels_only
        self.batch_size = MAX_BATCH_SIZE if self._answers_ahead and backend.device.type == "cuda" else 1
        self._on_message = on_message or logging.getLogger("atrous").info
        self._bytes_per_pixel: float | None = None
        self._budget_mib = protocol.budget_mib or compute_budget_mib(backend.device)
        self._told_sizes: set[tuple[int, int]] = set()

    def find_window(self, height: int, width: int) -> int | None:
        """Return the side in pixels of the windows for an image of this size, or None for the whole image.

        It is the protocol's window, or else the largest one that fits in the protocol's memory budget.

        Raises:
            MachineError: Not even a small window fits.
        """
        if self.protocol.window is not None:
            return self.protocol.window
        return self._choose_window(height, width)

    def find_streamed_window(self, height: int, width: int) -> int:
        """Return the window's side for an image that is not in memory, however much of that there is.

        Raises:
            MachineError: Not even a small window fits.
        """
        return self.find_window(height, width) or LARGEST_WINDOW

    def _choose_window(self, height: int, width: int) -> int | None:
        scale = max(self.protocol.scales)
        if height * width <= count_fitting_pixels(scale, MOST_BYTES_PER_PIXEL, self._budget_mib):
            return None
        if self._bytes_per_pixel is None:
            self._bytes_per_pixel = self.backend.measure_bytes_per_pixel()
        fitting = count_fitting_pixels(scale, self._bytes_per_pixel, self._budget_mib)
        window = choose_window(height, width, fitting)
        if window is not None and (height, width) not in self._told_sizes:
            self._told_sizes.add((height, width))
            self._on_message(
                f"images of {height} x {width} pixels are labelled in windows of {window}, "
                "since a whole one does not fit in memory"
            )
        return window

    def iter_labels(self, image: np.ndarray) -> Iterator[LabelBand]:
        """Label an image a band of rows at a time, which keeps the memory bounded; as a whole where DenseCRF follows.

        Args:
            image: (H, W, 3) uint8 RGB.
        Raises:
            MachineError: The memory does not suffice.
        """
        height, width = image.shape[:2]
        if self.backend.labels_only:
            yield self._label_whole(image)
            return
        protocol = replace(self.protocol, window=self.find_window(height, width))
        pixels = _to_tensor(image)
        if self.crf is not None:
            require_crf_memory(height, width, self.backend.num_classes, self.backend.device)
        bands = iter_bands(self.backend, ArrayImage(pixels), protocol)
        if self.crf is None:
            for band in bands:
                yield LabelBand(_label(band.scores) if band.indices is None else band.indices, band)
            return
        probs = torch.cat([band.compute_probs() for band in bands], dim=1)  # (K, H, W)
        refined = Band(0, refine(self.crf, probs, pixels), are_logits=False)
        yield LabelBand(_label(refined.scores), refined, indices_before_crf=_label(probs))

    def iter_ids(self, image: ImageSource, window: int, *, min_confidence: float = 0.0) -> Iterator[np.ndarray]:
        """Label an image that need not be in memory, in windows; not where DenseCRF follows.

        Args:
            image: What is labelled.
            window: Their side in pixels.
            min_confidence: Pixels below it get the data's ignored id.
        Yields: Ids of the data a band at a time, (R, W) uint8 or uint16.
        """
        ignored = self._find_ignored_id() if min_confidence > 0 else None
        for band in iter_bands(self.backend, image, replace(self.protocol, window=window)):
            sure = None if ignored is None else band.compute_confidence().cpu().numpy()
            yield self._decode(_label(band.scores), sure, min_confidence, ignored)

    def _label_whole(self, image: np.ndarray) -> LabelBand:
        """Return the labels of a backend that gives nothing else; windows could not be blended."""
        if self.find_window(*image.shape[:2]) is not None:
            raise MachineError(
                f"an image of {image.shape[0]} x {image.shape[1]} pixels does not fit in memory, "
                "and a file that gives labels alone cannot go over it in windows",
                "Give smaller images, or export the model without --argmax.",
            )
        indices = self.backend.label(_to_tensor(image).unsqueeze(0))[0]
        return LabelBand(indices.cpu().numpy().astype(np.uint16), None)

    def require_confidence(self, **wanted: bool) -> None:
        """Refuse what needs probabilities if the backend gives labels alone.

        Args:
            wanted: Whether it is asked for, by its name.
        Raises:
            UsageError: Something is, and the backend gives labels alone.
        """
        asked = [name for name, is_asked in wanted.items() if is_asked]
        if self.backend.labels_only and asked:
            raise UsageError(
                f"{', '.join(asked)}: the model is a file that gives labels alone", "Export it without --argmax."
            )

    def label_image(
        self, image: np.ndarray, *, confidence: bool = True, probabilities: bool = False
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Label an image.

        Args:
            image: (H, W, 3) uint8 RGB.
            confidence: Whether to compute it, which takes about as long as finding the labels.
            probabilities: Whether to keep them for every class, which takes 2 K bytes a pixel.
        Returns: Class indices (H, W) uint16; confidence (H, W) float32 and probabilities (K, H, W) float16, or None.
            There is no confidence where the backend gives labels alone.
        Raises:
            UsageError: Probabilities are asked for, and the backend has none.
        """
        self.require_confidence(probabilities=probabilities)
        height, width = image.shape[:2]
        indices = np.empty((height, width), dtype=np.uint16)
        sure = np.empty((height, width), dtype=np.float32) if confidence and not self.backend.labels_only else None
        probs = np.empty((self.label_space.num_classes, height, width), dtype=np.float16) if probabilities else None
        for band in self.iter_labels(image):
            rows = slice(band.start_row, band.start_row + len(band.indices))
            indices[rows] = band.indices
            if sure is not None and band.band is not None:
                sure[rows] = band.band.compute_confidence().cpu().numpy()
            if probs is not None and band.band is not None:
                probs[:, rows] = band.band.compute_probs().half().cpu().numpy()
        return indices, sure, probs

    def predict_image(
        self,
        image: np.ndarray,
        *,
        key: str = "image",
        confidence: bool = True,
        probabilities: bool = False,
        min_confidence: float = 0.0,
    ) -> Prediction:
        """Label an image (H, W, 3) uint8; see `predict`."""
        self.require_confidence(min_confidence=min_confidence > 0)
        ignored = self._find_ignored_id() if min_confidence > 0 else None
        indices, sure, probs = self.label_image(
            image, confidence=confidence or min_confidence > 0, probabilities=probabilities
        )
        labels = self._decode(indices, sure, min_confidence, ignored)
        window = self.find_window(*image.shape[:2])
        return Prediction(key, image, labels, sure, probs, self.label_space, window)

    def _decode(
        self, indices: np.ndarray, confidence: np.ndarray | None, least: float, ignored: int | None
    ) -> np.ndarray:
        """Return the ids of class indices; an ignored id, if there is one, where the confidence is too small."""
        labels = self.label_space.decode(indices)
        if confidence is not None and ignored is not None:
            labels = labels.astype(np.promote_types(labels.dtype, np.min_scalar_type(ignored)))
            labels[confidence < least] = ignored
        return labels

    def _find_ignored_id(self) -> int:
        ignored = self.label_space.ignored_ids[0] if self.label_space.ignored_ids else 255
        if ignored in self.label_space.ids:
            raise UsageError(
                "min_confidence needs an id for pixels without a label, and 255 is a class",
                "Name an ignored id in the data's label space.",
            )
        return ignored

    def predict(
        self, source: Any, *, probabilities: bool = False, min_confidence: float = 0.0
    ) -> Prediction | list[Prediction] | Iterator[Prediction]:
        """Label what a person gives.

        Args:
            source: A path, a PIL image, a uint8 array (H, W, 3), a tensor (3, H, W) of uint8 or of floats in [0, 1]:
                gives one prediction. A list of them: a list. A folder or a glob: an iterator.
            probabilities: Whether to keep the probabilities of every class.
            min_confidence: Pixels below it get the data's ignored id, 255 where it has none.
        Raises:
            UsageError: The source is something else, or there is no such file.
            DataError: A file cannot be read as an image.
        """
        if isinstance(source, (list, tuple)):
            options = {"probabilities": probabilities, "min_confidence": min_confidence}
            return [
                self.predict_image(image, key=key, **options)  # type: ignore[arg-type]
                for number, item in enumerate(source)
                for key, image in [_read_item(item, f"image-{number}")]
            ]
        if isinstance(source, (str, Path)) and (Path(source).is_dir() or is_glob(source)):
            files = find_images(source)
            return self.iter_predictions(files, probabilities=probabilities, min_confidence=min_confidence)
        key, image = _read_item(source, "image")
        return self.predict_image(image, key=key, probabilities=probabilities, min_confidence=min_confidence)

    def iter_predictions(
        self,
        files: Iterable[ImageFile],
        *,
        confidence: bool = True,
        probabilities: bool = False,
        min_confidence: float = 0.0,
        skip: Callable[[ImageFile, DataError], None] | None = None,
    ) -> Iterator[Prediction]:
        """Label files one after another; the next one goes through the network, and those after it are read, meanwhile.

        On a GPU those of equal size among a few that follow each other go through the network as one batch.

        Args:
            files: The images.
            confidence: Whether to compute it.
            probabilities: Whether to keep the probabilities of every class.
            min_confidence: Pixels below it get the data's ignored id.
            skip: Told of each file that cannot be read, which is then passed over; its error is raised where left out.
        """
        images = _iter_images(files, self.batch_size, skip)
        groups = iter(lambda: list(islice(images, self.batch_size)), [])
        for group, answering in iter_ahead(self._answer_together, groups):
            for (file, image), labeller in zip(group, answering.result(), strict=True):
                yield labeller.predict_image(
                    image,
                    key=file.key,
                    confidence=confidence,
                    probabilities=probabilities,
                    min_confidence=min_confidence,
                )

    def _answer_together(self, group: Sequence[tuple[ImageFile, np.ndarray]]) -> list[Labeller]:
        """Run the network on those of equal size at once, as many as fit in memory; return what labels each."""
        images = [image for _, image in group]
        answers = [self] * len(images)
        by_size: dict[tuple[int, ...], list[int]] = {}
        for number, image in enumerate(images if self._answers_ahead else ()):
            by_size.setdefault(image.shape, []).append(number)
        for (height, width, _), numbers in by_size.items():
            if self.find_window(height, width) is not None:
                continue  # windows are run when the first band needs them
            most = max(count_fitting_pixels(1.0, MOST_BYTES_PER_PIXEL, self._budget_mib) // (height * width), 1)
            for start in range(0, len(numbers), most):
                batch = numbers[start : start + most]
                cells = self.backend(torch.from_numpy(np.stack([images[i] for i in batch])).permute(0, 3, 1, 2))
                for place, number in enumerate(batch):
                    answers[number] = copy.copy(self)
                    own = replace(cells, logits=cells.logits[place : place + 1])
                    answers[number].backend = _Answered(self.backend, own)
        return answers


class _Answered:
    """A backend whose network has answered already.

    Args:
        backend: Whose answer it was.
        cells: The answer, for one image.
    """

    def __init__(self, backend: Backend, cells: Cells) -> None:
        self.num_classes, self.device, self.aligned = backend.num_classes, backend.device, backend.aligned
        self.labels_only, self.is_full_size, self.precisions = False, backend.is_full_size, backend.precisions
        self.label, self.measure_bytes_per_pixel = backend.label, backend.measure_bytes_per_pixel
        self._cells = cells

    def __call__(self, images: Tensor) -> Cells:
        """Return the answer."""
        return self._cells


def _iter_images(
    files: Iterable[ImageFile], ahead: int, skip: Callable[[ImageFile, DataError], None] | None
) -> Iterator[tuple[ImageFile, np.ndarray]]:
    """Yield files with their pixels; tell `skip` of those that cannot be read, or raise where there is none."""
    for file, reading in iter_ahead(lambda file: load_image(file.path), files, ahead=ahead):
        try:
            image = reading.result()
        except DataError as error:
            if skip is None:
                raise
            skip(file, error)
            continue
        yield file, image


def _to_tensor(image: np.ndarray) -> Tensor:
    """(H, W, 3) -> (3, H, W), without a copy where that can be."""
    return torch.from_numpy(np.require(image, requirements=("C", "W"))).permute(2, 0, 1)


def _label(scores: Tensor) -> np.ndarray:
    """Return the likeliest classes of scores (K, R, W), (R, W) uint16."""
    return find_likeliest(scores).cpu().numpy().astype(np.uint16)


def _read_item(item: Any, key: str) -> tuple[str, np.ndarray]:
    """Return the name and the pixels of one image, a file or in memory."""
    if not isinstance(item, (str, Path)):
        return key, convert_image(item)
    if Path(item).is_dir() or is_glob(item):
        raise UsageError(f"a list holds images, and {item} is a folder or a glob", "Give it by itself.")
    [file] = find_images(item)
    return file.key, load_image(file.path)
