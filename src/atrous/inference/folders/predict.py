"""What a user gives to be labelled (files, folders, globs, images in memory), turned into predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from atrous.core.errors import DataError, OutputError, UsageError
from atrous.core.inputs import ImageForm
from atrous.core.paths import refuse_empty
from atrous.core.words import describe_count
from atrous.images.bands import load_bands
from atrous.inference.folders.inputs import ImageFile, convert_image, find_images, is_glob
from atrous.inference.folders.prediction import Prediction
from atrous.inference.folders.prefetch import iter_ahead
from atrous.inference.labelling.labeller import Labeller, naming_image
from atrous.networks.contracts import Cells


class _Item(NamedTuple):
    """An image to label: the name of its results, its file if any, its pixels (H, W, C), and which have no data."""

    key: str
    path: Path | None
    pixels: np.ndarray
    is_missing: np.ndarray | None = None


class Predictions(Iterator[Prediction]):
    """The predictions of a folder or a glob: each is made when it is asked for, and given once.

    Args:
        predictions: Makes them.
        source: The folder or the glob, for the text that this shows itself as.
        count: Number of images.
    """

    def __init__(self, predictions: Iterator[Prediction], source: str, count: int) -> None:
        self._predictions = predictions
        self._source = source
        self._count = count
        self._given = 0

    def __next__(self) -> Prediction:
        prediction = next(self._predictions)
        self._given += 1
        return prediction

    def __len__(self) -> int:
        """Return the number of images, those given already among them."""
        return self._count

    def __repr__(self) -> str:
        return (
            f"Predictions({self._source!r}, {self._given} of {describe_count(self._count, 'image')} labelled so far: "
            "each is labelled when a loop asks for it, as in `for prediction in predictions`)"
        )


def predict(
    labeller: Labeller, source: Any, *, probabilities: bool = False, min_confidence: float = 0.0
) -> Prediction | list[Prediction] | Iterator[Prediction]:
    """Label what a user gives.

    Args:
        labeller: What labels.
        source: A path, a PIL image, a uint8 array (H, W, 3), a tensor (3, H, W) of uint8 or of floats in [0, 1]: gives
            one prediction. A list of them: a list. A folder or a glob: an iterator.
        probabilities: Whether to keep the probabilities of every class.
        min_confidence: Pixels below it, in [0, 1], get the id of void.
    Raises:
        UsageError: The source is something else, there is no such file, or `min_confidence` is not in [0, 1].
        DataError: A file cannot be read as an image.
    """
    refuse_empty(source, "the path of an image")
    if isinstance(source, (str, Path)) and (Path(source).is_dir() or is_glob(source)):
        files = find_images(source)
        labeller.require_min_confidence(min_confidence)
        labeller.require_confidence(probabilities=probabilities)
        found = iter_predictions(labeller, files, probabilities=probabilities, min_confidence=min_confidence)
        return Predictions(found, str(source), len(files))
    if not isinstance(source, (list, tuple)):
        item = _read_item(source, "image", labeller.form)
        return predict_image(
            labeller,
            item.pixels,
            key=item.key,
            source=item.path,
            is_missing=item.is_missing,
            probabilities=probabilities,
            min_confidence=min_confidence,
        )
    images = (_read_item(item, f"image-{number}", labeller.form) for number, item in enumerate(source))
    return list(_iter_labelled(labeller, images, probabilities=probabilities, min_confidence=min_confidence))


def predict_image(
    labeller: Labeller,
    image: np.ndarray,
    cells: Cells | None = None,
    *,
    key: str = "image",
    source: Path | None = None,
    is_missing: np.ndarray | None = None,
    confidence: bool = True,
    probabilities: bool = False,
    min_confidence: float = 0.0,
) -> Prediction:
    """Label an image.

    Args:
        labeller: What labels.
        image: The image in the labeller's form.
        cells: What `Labeller.run_network` gave for it; None to run the network now.
        key: What its files are called, a path without suffix.
        source: Its file, or None.
        is_missing: Its pixels without data, which get the id of void; None if there are none.
        confidence: Whether to compute it.
        probabilities: Whether to keep the probabilities of every class.
        min_confidence: Pixels below it, in [0, 1], get the id of void.
    Shapes:
        image (H, W, C), is_missing (H, W) bool.
    Raises:
        UsageError: `min_confidence` is not in [0, 1], or more than labels is asked of a backend that gives labels
            alone.
        OutputError: The network's output is not finite.
    """
    labeller.require_min_confidence(min_confidence)
    wanted = {"confidence": confidence or min_confidence > 0, "probabilities": probabilities}
    with naming_image(key):
        found = labeller.label_image(image, cells, **wanted)
    labels = labeller.decode(found.indices, found.confidence, min_confidence, is_missing)
    window = labeller.find_window(*image.shape[:2])
    return Prediction(
        key,
        image,
        labels,
        found.confidence,
        found.probabilities,
        labeller.label_space,
        window,
        source,
        labeller.form,
        is_missing,
    )


def iter_predictions(
    labeller: Labeller,
    files: Iterable[ImageFile],
    *,
    confidence: bool = True,
    probabilities: bool = False,
    min_confidence: float = 0.0,
    skip: Callable[[ImageFile, DataError], None] | None = None,
) -> Iterator[Prediction]:
    """Label files one after another; meanwhile the network runs on the next ones, and those after them are decoded.

    On a GPU images of equal size among a few that follow each other go through the network as one batch.

    Args:
        labeller: What labels.
        files: The images.
        confidence: Whether to compute it.
        probabilities: Whether to keep the probabilities of every class.
        min_confidence: Pixels below it, in [0, 1], get the id of void.
        skip: Receives each file that cannot be read or labelled, with its error, and the next one follows. Default: the
            error is raised.
    """
    yield from _iter_labelled(
        labeller,
        _iter_images(files, labeller, skip),
        skip=skip,
        confidence=confidence,
        probabilities=probabilities,
        min_confidence=min_confidence,
    )


def _iter_labelled(
    labeller: Labeller,
    images: Iterator[_Item],
    *,
    skip: Callable[[ImageFile, DataError], None] | None = None,
    **options: Any,
) -> Iterator[Prediction]:
    """Label images; the network runs on the next batch meanwhile."""
    groups = iter(lambda: list(islice(images, labeller.batch_size)), [])

    def run(group: list[_Item]) -> list[Cells | None]:
        return labeller.run_network([item.pixels for item in group])

    for group, running in iter_ahead(run, groups):
        for item, cells in zip(group, running.result(), strict=True):
            try:
                prediction = predict_image(
                    labeller,
                    item.pixels,
                    cells,
                    key=item.key,
                    source=item.path,
                    is_missing=item.is_missing,
                    **options,
                )
            except OutputError as error:
                if skip is None or item.path is None:
                    raise
                skip(ImageFile(item.path, item.key), error)
            else:
                yield prediction


def _iter_images(
    files: Iterable[ImageFile], labeller: Labeller, skip: Callable[[ImageFile, DataError], None] | None
) -> Iterator[_Item]:
    """Yield files with their pixels; tell `skip` of those that cannot be read, or raise where there is none."""
    reads = iter_ahead(lambda file: load_bands(file.path, labeller.form), files, ahead=labeller.batch_size)
    for file, reading in reads:
        try:
            bands = reading.result()
        except DataError as error:
            if skip is None:
                raise
            skip(file, error)
            continue
        yield _Item(file.key, file.path, *bands)


def _read_item(item: Any, key: str, form: ImageForm) -> _Item:
    """Read one image, a file or in memory."""
    if not isinstance(item, (str, Path)):
        return _Item(key, None, *convert_image(item, form))
    if Path(item).is_dir() or is_glob(item):
        raise UsageError(f"a list holds images, and {item} is a folder or a glob", "Give it by itself.")
    [file] = find_images(item)
    return _Item(file.key, file.path, *load_bands(file.path, form))
