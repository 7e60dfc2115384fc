"""From arrays to labels: the one path that predictions, scores and validations share. Files are not read here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from atrous.core.calibration import Chosen
from atrous.core.errors import ConfigError, MachineError, MemoryShort, OutputError, UsageError
from atrous.core.inputs import PHOTO, ImageForm
from atrous.core.labels import USUAL_VOID_ID, LabelSpace
from atrous.core.records import MessageCallback, Note, Protocol
from atrous.core.words import describe_count
from atrous.crf.dense import DenseCRF, refine, require_crf_memory
from atrous.images.bands import show_bands
from atrous.inference.contracts import Backend, Band, ImageSource, LabelBand, LiveBackend
from atrous.inference.labelling.likeliest import find_likeliest
from atrous.inference.labelling.probabilities import iter_bands
from atrous.inference.labelling.source import ArrayImage
from atrous.inference.memory import (
    LARGEST_WINDOW,
    SMALLEST_WINDOW,
    choose_window,
    compute_budget_mib,
    count_fitting_pixels,
)
from atrous.networks.contracts import Cells

MOST_BYTES_PER_PIXEL = 8192
"""More than any network here needs, so that images far below the memory are not measured for."""
MAX_BATCH_SIZE = 8
"""Images that go through the network as one batch on a GPU; on a CPU that gains nothing."""


class Labels(NamedTuple):
    """What is known of an image after labelling.

    Args:
        indices: (H, W) uint16 class indices.
        confidence: (H, W) float32, the probability of the class given; None if it was not asked for, or the backend
            gives labels alone.
        probabilities: (K, H, W) float16, or None if they were not asked for.
    """

    indices: np.ndarray
    confidence: np.ndarray | None
    probabilities: np.ndarray | None


class Labeller:
    """A network with everything that turns images into labels.

    Args:
        backend: What runs the network, at the protocol's output stride and precision.
        label_space: What its classes are.
        protocol: How an image becomes labels.
        form: What images are: RGB of 8 bits by default.
        chosen: The temperature of confidences and probabilities. Default: 1.
        on_message: Receives messages about automatic choices and findings.
    Raises:
        ConfigError: Network and label space differ in their number of classes.
    """

    def __init__(
        self,
        backend: LiveBackend,
        label_space: LabelSpace,
        protocol: Protocol,
        *,
        form: ImageForm = PHOTO,
        chosen: Chosen | None = None,
        on_message: MessageCallback | None = None,
    ) -> None:
        _require_classes(backend, label_space)
        self.backend = backend
        self.label_space = label_space
        self.protocol = protocol
        self.form = form
        self.chosen = chosen or Chosen()
        self.crf = None if protocol.crf is None else DenseCRF(**protocol.crf).to(backend.device)
        is_one_look = protocol.scales == (1.0,) and not protocol.flip and protocol.window is None and self.crf is None
        self._runs_ahead = is_one_look and not backend.labels_only
        self.batch_size = MAX_BATCH_SIZE if self._runs_ahead and backend.device.type == "cuda" else 1
        self._on_message = on_message or logging.getLogger("atrous").info
        self._bytes_per_pixel: float | None = None
        self._budget_mib = protocol.budget_mib or compute_budget_mib(backend.device)
        self._most_pixels: int | None = None
        """Half of what the memory did not suffice for, despite the budget; None as long as it did."""
        self._told: set[str] = set()

    def find_window(self, height: int, width: int) -> int | None:
        """Return the side in pixels of the windows for an image of this size, or None for the whole image.

        It is the protocol's window, or else the largest one that fits in the protocol's memory budget.

        Args:
            height: Height of the image in pixels.
            width: Width of the image in pixels.
        Raises:
            MachineError: Not even a small window fits.
        """
        if self.protocol.window is not None:
            return self.protocol.window
        return self._choose_window(height, width)

    def find_streamed_window(self, height: int, width: int) -> int:
        """Return the side in pixels of the windows for an image that is read a part at a time, whatever its size.

        Args:
            height: Height of the image in pixels.
            width: Width of the image in pixels.
        Raises:
            MachineError: Not even a small window fits.
        """
        return self.find_window(height, width) or LARGEST_WINDOW

    def _choose_window(self, height: int, width: int) -> int | None:
        scale = max(self.protocol.scales)
        fitting = count_fitting_pixels(scale, MOST_BYTES_PER_PIXEL, self._budget_mib)
        if height * width > fitting:
            if self._bytes_per_pixel is None:
                self._bytes_per_pixel = self.backend.measure_bytes_per_pixel()
            fitting = count_fitting_pixels(scale, self._bytes_per_pixel, self._budget_mib)
        window = choose_window(height, width, min(fitting, self._most_pixels or fitting))
        if window is not None:
            message = (
                f"images of {height} x {width} pixels are labelled in windows of {window}, "
                "since a whole one does not fit in memory"
            )
            self._say_once(Note("labelled-in-windows", message))
        return window

    def _say_once(self, note: Note) -> None:
        if note not in self._told:
            self._told.add(note)
            self._on_message(note)

    def _hold(self) -> Backend:
        """Return a backend for the present state of the network, whose last layer may have been replaced since."""
        backend = self.backend.hold()
        _require_classes(backend, self.label_space)
        return backend

    def label(
        self, images: Sequence[np.ndarray], *, confidence: bool = True, probabilities: bool = False
    ) -> list[Labels]:
        """Label images; on a GPU those of equal size go through the network together.

        Args:
            images: Images in the labeller's form.
            confidence: Whether to compute it, which takes about as long as finding the labels.
            probabilities: Whether to keep them for every class, which takes 2 K bytes a pixel.
        Shapes:
            in (H, W, C) each, of any sizes; out see `Labels`.
        Raises:
            UsageError: Probabilities are asked for, and the backend has none.
            MachineError: The memory does not suffice.
        """
        answers = self.run_network(images)
        return [
            self.label_image(image, cells, confidence=confidence, probabilities=probabilities)
            for image, cells in zip(images, answers, strict=True)
        ]

    def run_network(self, images: Sequence[np.ndarray]) -> list[Cells | None]:
        """Run the network on images, so that labelling them afterwards takes the rest of the work alone.

        Args:
            images: Images in the labeller's form; on a GPU those of equal size are run together, as many as fit in the
                memory budget.
        Shapes:
            in (H, W, C) each; out cells with logits (1, K, h, w) each.
        Returns: The cells of each image; None if the network runs on it several times, which is done while labelling.
        Raises:
            ConfigError: The network has another number of classes by now.
            MachineError: The memory does not suffice.
        """
        answers: list[Cells | None] = [None] * len(images)
        by_size: dict[tuple[int, ...], list[int]] = {}
        for number, image in enumerate(images if self._runs_ahead else ()):
            by_size.setdefault(image.shape, []).append(number)
        backend = self._hold() if by_size else self.backend
        for (height, width, _), numbers in by_size.items():
            if self.find_window(height, width) is not None:
                continue
            most = max(count_fitting_pixels(1.0, MOST_BYTES_PER_PIXEL, self._budget_mib) // (height * width), 1)
            most = min(most, self.batch_size)
            while numbers and most:
                batch = numbers[:most]
                try:
                    cells = backend(_to_tensor(np.stack([images[i] for i in batch])))
                except MemoryShort:  # other programs use the same GPU
                    most = len(batch) // 2  # 0: `label_image` finds a window for this image
                    self.batch_size = max(most, 1)
                    continue
                for place, number in enumerate(batch):
                    answers[number] = replace(cells, logits=cells.logits[place : place + 1])
                numbers = numbers[most:]
        return answers

    def label_image(
        self,
        image: np.ndarray,
        cells: Cells | None = None,
        *,
        confidence: bool = True,
        probabilities: bool = False,
    ) -> Labels:
        """Label one image.

        Args:
            image: The image in the labeller's form.
            cells: What `run_network` gave for it; None to run the network now.
            confidence: Whether to compute it, which takes about as long as finding the labels.
            probabilities: Whether to keep them for every class, which takes 2 K bytes a pixel.
        Shapes:
            in (H, W, C); out see `Labels`.
        Raises:
            UsageError: Probabilities are asked for, and the backend has none.
            MachineError: The memory does not suffice.
        """
        self.require_confidence(probabilities=probabilities)
        height, width = image.shape[:2]
        indices = np.empty((height, width), dtype=np.uint16)
        sure = np.empty((height, width), dtype=np.float32) if confidence and not self.backend.labels_only else None
        probs = np.empty((self.label_space.num_classes, height, width), dtype=np.float16) if probabilities else None
        for band in self.iter_labels(image, cells):
            rows = slice(band.start_row, band.start_row + len(band.indices))
            indices[rows] = band.indices
            if sure is not None and band.band is not None:
                sure[rows] = band.band.compute_confidence(self.chosen.temperature).cpu().numpy()
            if probs is not None and band.band is not None:
                probs[:, rows] = band.band.compute_probs(self.chosen.temperature).half().cpu().numpy()
        return Labels(indices, sure, probs)

    def iter_labels(self, image: np.ndarray, cells: Cells | None = None) -> Iterator[LabelBand]:
        """Label an image a band of rows at a time, which bounds the memory; as a whole if DenseCRF refines the labels.

        Args:
            image: The image in the labeller's form.
            cells: What `run_network` gave for it; None to run the network now.
        Shapes:
            in (H, W, C); the bands' indices (R, W), the R adding up to H.
        Raises:
            ConfigError: The network has another number of classes by now.
            OutputError: The network's output is not finite.
            MachineError: The memory does not suffice.
        """
        if self.backend.labels_only:
            yield self._label_whole(image)
            return
        pixels = _to_tensor(image)
        if self.crf is not None:
            height, width = image.shape[:2]
            require_crf_memory(height, width, self.backend.num_classes, self.backend.device)
        bands = self._iter_bands(pixels, cells)
        if self.crf is None:
            for band in bands:
                yield LabelBand(_label(band.scores) if band.indices is None else band.indices, band)
            return
        probs = torch.cat([band.compute_probs() for band in bands], dim=1)  # (K, H, W)
        refined = Band(0, refine(self.crf, probs, self.show(image)), are_logits=False)
        yield LabelBand(_label(refined.scores), refined, indices_before_crf=_label(probs))

    def show(self, image: np.ndarray) -> Tensor:
        """Return the colours of an image that DenseCRF sees, of 8 or 16 bits.

        Args:
            image: The image in the labeller's form.
        Shapes:
            in (H, W, C); out (3, H, W).
        """
        shown = show_bands(image, self.form, deep=True)
        return torch.from_numpy(np.require(shown.transpose(2, 0, 1), requirements=("C", "W")))

    def _iter_bands(self, pixels: Tensor, cells: Cells | None) -> Iterator[Band]:
        """Yield the bands of an image (3, H, W), in smaller windows if the memory runs out before the first band."""
        height, width = pixels.shape[1:]
        backend = self._hold() if cells is None else self.backend
        while True:
            window = self.find_window(height, width)
            bands = iter_bands(backend, ArrayImage(pixels), replace(self.protocol, window=window), cells)
            try:
                first = next(bands)
                break
            except MemoryShort:
                half = (height * width if window is None else window**2) // 2
                if self.protocol.window is not None or half < SMALLEST_WINDOW**2:
                    raise
                self._most_pixels = half
        yield first
        yield from bands

    def iter_ids(
        self,
        image: ImageSource,
        window: int,
        *,
        min_confidence: float = 0.0,
        find_missing: Callable[[slice], np.ndarray | None] = lambda rows: None,
    ) -> Iterator[np.ndarray]:
        """Label an image that need not be in memory, in windows; DenseCRF is not applied.

        Args:
            image: What is labelled.
            window: Side of the windows in pixels.
            min_confidence: Pixels below it, in [0, 1], get the id of void.
            find_missing: Returns which pixels of some rows have no data, (R, W) bool, and get the id of void; None if
                there are none.
        Yields: Ids of the data a band at a time, (R, W) uint8 or uint16.
        """
        for band in iter_bands(self._hold(), image, replace(self.protocol, window=window)):
            temperature = self.chosen.temperature
            confidence = band.compute_confidence(temperature).cpu().numpy() if min_confidence > 0 else None
            indices = _label(band.scores)
            is_missing = find_missing(slice(band.start_row, band.start_row + len(indices)))
            yield self.decode(indices, confidence, min_confidence, is_missing)

    def decode(
        self,
        indices: np.ndarray,
        confidence: np.ndarray | None = None,
        min_confidence: float = 0.0,
        is_missing: np.ndarray | None = None,
    ) -> np.ndarray:
        """Turn class indices into the data's ids, with the id of void where the confidence is too small.

        Args:
            indices: Class indices.
            confidence: Probability of the class given; needed if `min_confidence` is above 0.
            min_confidence: Least confidence, in [0, 1].
            is_missing: Pixels of the image without data, which get the id of void too; None if there are none.
        Shapes:
            in (H, W) integers, (H, W) float32 and (H, W) bool; out (H, W) uint8 or uint16.
        """
        is_void = confidence < min_confidence if confidence is not None and min_confidence > 0 else None
        if is_missing is not None:
            is_void = is_missing if is_void is None else is_void | is_missing
        if is_void is None:
            return self.label_space.decode(indices)
        if self.label_space.void_id != USUAL_VOID_ID:
            which = "without data" if min_confidence <= 0 else "below min_confidence"
            message = f"pixels {which} get the id {self.label_space.void_id}"
            self._say_once(Note("void-id", f"{message}, since {USUAL_VOID_ID} is a class"))
        return self.label_space.decode(indices, is_void)

    def _label_whole(self, image: np.ndarray) -> LabelBand:
        """Return the labels of a backend that gives nothing else; windows could not be blended."""
        if self.find_window(*image.shape[:2]) is not None:
            raise MachineError(
                f"an image of {image.shape[0]} x {image.shape[1]} pixels does not fit in memory, "
                "and a file that gives labels alone cannot go over it in windows",
                "Give smaller images, or export the model without `argmax=True`.",
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
                f"{', '.join(asked)}: the model is a file that gives labels alone", "Export it without `argmax=True`."
            )

    def require_min_confidence(self, min_confidence: float) -> None:
        """Refuse a least confidence that is out of its range, or cannot be compared with.

        Args:
            min_confidence: Least confidence; 0 asks for nothing.
        Raises:
            UsageError: It is not in [0, 1], or it is above 0 and the backend gives labels alone.
            DataError: It is above 0, and every id is a class or ignored.
        """
        if not 0 <= min_confidence <= 1:
            raise UsageError(f"min_confidence is {min_confidence}", "Allowed: a probability, 0 to 1.")
        self.require_confidence(min_confidence=min_confidence > 0)
        if min_confidence > 0:
            _ = self.label_space.void_id  # fails now if no id is left


def _require_classes(backend: Backend, label_space: LabelSpace) -> None:
    if backend.num_classes != label_space.num_classes:
        found = describe_count(backend.num_classes, "class")
        raise ConfigError(f"the network has {found}, the data {label_space.num_classes}")


@contextmanager
def naming_image(name: str) -> Iterator[None]:
    """Put the name of an image before the message of an `OutputError` that is raised in the `with` block.

    Args:
        name: Name of the image.
    Raises:
        OutputError: See above.
    """
    try:
        yield
    except OutputError as error:
        raise OutputError(f"{name}: {error.message}", error.hint) from error


def _to_tensor(image: np.ndarray) -> Tensor:
    """([B,] H, W, C) -> ([B,] C, H, W), bytes without a copy where that can be, other values as floats."""
    values = image if image.dtype == np.uint8 else image.astype(np.float32)
    return torch.from_numpy(np.require(values, requirements=("C", "W"))).movedim(-1, -3)


def _label(scores: Tensor) -> np.ndarray:
    """Return the likeliest classes of scores (K, R, W), (R, W) uint16."""
    return find_likeliest(scores).cpu().numpy().astype(np.uint16)
