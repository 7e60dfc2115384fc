"""Labelling many files into a folder: their names, what was done, what was skipped."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atrous.core.errors import DataError, MachineError, UsageError
from atrous.core.files import save_json
from atrous.core.machine import count_usable_cores
from atrous.core.records import Progress, ProgressCallback
from atrous.core.registry import describe_choices
from atrous.images.decode import HUGE_PX, is_huge_tiff
from atrous.inference import HUGE_FORMATS
from atrous.inference.folders.inputs import ImageFile, find_images, require_safe_output
from atrous.inference.folders.predict import iter_predictions
from atrous.inference.folders.prediction import Prediction
from atrous.inference.folders.prefetch import MOST_THREADS
from atrous.inference.labelling.labeller import Labeller
from atrous.inference.memory import LARGEST_WINDOW

RECORD_NAME = "predictions.json"
OUTPUT_FORMATS = ("labels", "overlay", "confidence")
DEFAULT_FORMATS = ("labels", "overlay")
"""Of images that are in memory as a whole; huge ones get labels."""


@dataclass
class PredictionRecord:
    """What `save_predictions` did.

    Args:
        folder: Where the files are.
        done: A row an image: input, files (below the folder), height, width, window.
        skipped: A row a file that could not be read: input, reason.
    """

    folder: Path
    done: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)

    def add(self, file: Path, written: Sequence[Path], size: tuple[int, int], window: int | None) -> None:
        """Record an image that was labelled.

        Args:
            file: The image.
            written: Files of its results.
            size: Height and width in pixels.
            window: Side of the windows in pixels, or None.
        """
        names = [path.relative_to(self.folder).as_posix() for path in written]
        self.done.append({"input": str(file), "files": names, "height": size[0], "width": size[1], "window": window})

    def skip(self, file: ImageFile, error: DataError) -> None:
        """Record a file that could not be read.

        Args:
            file: The image.
            error: Why it was skipped.
        """
        self.skipped.append({"input": str(file.path), "reason": error.message})


def save_predictions(
    labeller: Labeller,
    sources: Sequence[str | Path],
    output: Path,
    *,
    formats: Sequence[str] | None = None,
    probabilities: bool = False,
    min_confidence: float = 0.0,
    progress: ProgressCallback | None = None,
) -> PredictionRecord:
    """Label files, folders and globs into a folder, sub-folders mirrored, and write `predictions.json` beside them.

    Images are saved while the next ones are labelled. Files that cannot be read are skipped and recorded; an
    interruption leaves what is finished, recorded too. TIFFs of more than `HUGE_PX` pixels come last, are never whole
    in memory, and get labels alone, as TIFF.

    Args:
        labeller: What labels.
        sources: Files, folders and globs.
        output: The folder.
        formats: Any of `OUTPUT_FORMATS`; labels are always written. Default: labels and overlay, of huge images labels.
        probabilities: Whether to write the probabilities of every class.
        min_confidence: Pixels below it, in [0, 1], get the id of void.
        progress: Receives the progress.
    Raises:
        UsageError: A source or a format does not exist, `min_confidence` is not in [0, 1], two images share a name,
            the output folder is inside an input folder, or more than labels is asked of a model or an image that has
            labels alone.
        MachineError: A file cannot be written, memory is short, or the package that reads huge images is missing.
    """
    overlay, confidence = _choose_formats(formats)
    labeller.require_confidence(confidence=confidence, probabilities=probabilities)
    labeller.require_min_confidence(min_confidence)
    files = [file for source in sources for file in find_images(source)]
    require_safe_output(sources, files, output, confidence=confidence)
    huge = [file for file in files if is_huge_tiff(file.path)]
    if huge:
        _require_labels_alone(
            labeller, huge[0], overlay="overlay" in (formats or ()), confidence=confidence, probabilities=probabilities
        )
        HUGE_FORMATS.load("tiff")  # fails now if its package is missing
    paths = {file.key: file.path for file in files}
    record = PredictionRecord(output)
    pending: deque[tuple[Prediction, Future[list[Path]]]] = deque()

    def tell() -> None:
        if progress is not None:
            progress(Progress("predicting", len(record.done) + len(record.skipped), len(files)))

    def note(prediction: Prediction, written: list[Path]) -> None:
        height, width = prediction.labels.shape
        record.add(paths[prediction.key], written, (height, width), prediction.window)

    def finish() -> None:
        prediction, saving = pending.popleft()
        with _naming_the_image(paths[prediction.key]):
            written = saving.result()
        note(prediction, written)
        tell()

    whole = [file for file in files if file not in huge]
    predictions = iter_predictions(
        labeller,
        whole,
        confidence=confidence,
        probabilities=probabilities,
        min_confidence=min_confidence,
        skip=record.skip,
    )
    most = 1 if probabilities else labeller.batch_size  # those of every class take more memory than all else
    try:
        with ThreadPoolExecutor(max_workers=min(most, MOST_THREADS, count_usable_cores())) as pool:
            for prediction in predictions:
                if len(pending) == most:
                    finish()
                saving = pool.submit(prediction.save, output, overlay=overlay, confidence=confidence)
                pending.append((prediction, saving))
            while pending:
                finish()
        for file in huge:
            _label_huge(labeller, file, record, min_confidence=min_confidence, progress=progress)
            tell()
    finally:
        for prediction, saving in pending:  # after an interruption
            if saving.done() and saving.exception() is None:
                note(prediction, saving.result())
        _save_record(record, labeller)
    return record


def _label_huge(
    labeller: Labeller,
    file: ImageFile,
    record: PredictionRecord,
    *,
    min_confidence: float,
    progress: ProgressCallback | None,
) -> None:
    """Label an image that is never whole in memory, and note it, be it done or skipped."""
    target = record.folder / f"{file.key}.tif"
    label = HUGE_FORMATS.load("tiff")
    try:
        with _naming_the_image(file.path):
            height, width, window = label(labeller, file.path, target, min_confidence=min_confidence, progress=progress)
    except DataError as error:
        record.skip(file, error)
    else:
        record.add(file.path, [target], (height, width), window)


def _choose_formats(formats: Sequence[str] | None) -> tuple[bool, bool]:
    """Return whether the overlay and whether the confidence are written."""
    for name in formats or ():
        if name not in OUTPUT_FORMATS:
            raise UsageError(f"there is no format {name!r}", describe_choices(name, list(OUTPUT_FORMATS)))
    chosen = DEFAULT_FORMATS if formats is None else formats
    return "overlay" in chosen, "confidence" in chosen


def _require_labels_alone(labeller: Labeller, file: ImageFile, **wanted: bool) -> None:
    """Refuse what needs a whole image of a huge one, before anything is labelled."""
    asked = [name for name, is_wanted in wanted.items() if is_wanted]
    asked += ["DenseCRF"] * (labeller.crf is not None)
    asked += ["an exported file, which gives every pixel of a window at once,"] * labeller.backend.is_full_size
    asked += [f"a window of {labeller.protocol.window}"] * ((labeller.protocol.window or 0) > LARGEST_WINDOW)
    if asked:
        raise UsageError(
            f"{', '.join(asked)}: {file.path} has more than {HUGE_PX:,} pixels, and is never whole in memory",
            f"Ask for labels alone, in windows up to {LARGEST_WINDOW}, or cut the image into smaller ones.",
        )


@contextmanager
def _naming_the_image(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MachineError(f"cannot write the labels of {path}: {error}") from error


def _save_record(record: PredictionRecord, labeller: Labeller) -> None:
    space = labeller.label_space
    classes = [
        {"name": name, "id": number, "colour": list(colour)}
        for name, number, colour in zip(space.names, space.ids, space.colours, strict=True)
    ]
    save_json(
        record.folder / RECORD_NAME,
        {
            "protocol": labeller.protocol.to_json(),
            "classes": classes,
            "void_id": space.void_id,
            "done": record.done,
            "skipped": record.skipped,
        },
    )
