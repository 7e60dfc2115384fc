"""Labelling many files into a folder: their names, what was done, what was skipped."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atrous.core.errors import DataError, MachineError
from atrous.core.files import save_json
from atrous.core.records import Progress
from atrous.inference.inputs import PictureFile, find_pictures, require_safe_output
from atrous.inference.prediction import Prediction
from atrous.inference.predictor import Predictor
from atrous.inference.prefetch import MOST_THREADS

RECORD_NAME = "predictions.json"


@dataclass
class PredictionRecord:
    """What `save_predictions` did.

    Args:
        folder: Where the files are.
        done: A row a picture: input, files (below the folder), height, width, window.
        skipped: A row a file that could not be read: input, reason.
    """

    folder: Path
    done: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)


def save_predictions(
    predictor: Predictor,
    sources: Sequence[str | Path],
    output: Path,
    *,
    overlay: bool = True,
    confidence: bool = False,
    probabilities: bool = False,
    min_confidence: float = 0.0,
    progress: Callable[[Progress], None] | None = None,
) -> PredictionRecord:
    """Label files, folders and globs into a folder, sub-folders mirrored, and write `predictions.json` beside them.

    Pictures are saved while the next ones are labelled. Files that cannot be read are skipped and recorded; an
    interruption leaves what is finished, recorded too.

    Args:
        predictor: What labels.
        sources: Files, folders and globs.
        output: The folder.
        overlay: Whether to write each picture with its labels over it.
        confidence: Whether to write the confidence.
        probabilities: Whether to write the probabilities of every class.
        min_confidence: Pixels below it get the data's ignored id.
        progress: Told of each picture.
    Raises:
        UsageError: A source does not exist, two pictures share a name, or the output folder lies in an input folder;
            or the model gives labels alone and more is wanted.
        MachineError: A file cannot be written, or the memory does not suffice.
    """
    wanted = {"confidence": confidence, "probabilities": probabilities, "min_confidence": min_confidence > 0}
    predictor.require_confidence(*[name for name, is_wanted in wanted.items() if is_wanted])
    files = [file for source in sources for file in find_pictures(source)]
    require_safe_output(sources, files, output, confidence=confidence)
    paths = {file.key: file.path for file in files}
    record = PredictionRecord(output)
    pending: deque[tuple[Prediction, Future[list[Path]]]] = deque()

    def skip(file: PictureFile, error: DataError) -> None:
        record.skipped.append({"input": str(file.path), "reason": error.message})

    def finish() -> None:
        prediction, saving = pending.popleft()
        try:
            written = saving.result()
        except OSError as error:
            raise MachineError(f"cannot write the labels of {paths[prediction.key]}: {error}") from error
        note(prediction, written)
        if progress is not None:
            progress(Progress("predicting", len(record.done) + len(record.skipped), len(files)))

    def note(prediction: Prediction, written: list[Path]) -> None:
        height, width = prediction.labels.shape
        names = [path.relative_to(output).as_posix() for path in written]
        row = {"input": str(paths[prediction.key]), "files": names, "height": height, "width": width}
        record.done.append(row | {"window": prediction.window})

    predictions = predictor.iter_predictions(
        files, confidence=confidence, probabilities=probabilities, min_confidence=min_confidence, skip=skip
    )
    most = 1 if probabilities else predictor.together  # those of every class take more memory than all else
    try:
        with ThreadPoolExecutor(max_workers=min(most, MOST_THREADS)) as pool:
            for prediction in predictions:
                if len(pending) == most:
                    finish()
                saving = pool.submit(prediction.save, output, overlay=overlay, confidence=confidence)
                pending.append((prediction, saving))
            while pending:
                finish()
    finally:
        for prediction, saving in pending:  # after an interruption
            if saving.done() and saving.exception() is None:
                note(prediction, saving.result())
        _save_record(record, predictor)
    return record


def _save_record(record: PredictionRecord, predictor: Predictor) -> None:
    space = predictor.label_space
    classes = [
        {"name": name, "id": number, "colour": list(colour)}
        for name, number, colour in zip(space.names, space.ids, space.colours, strict=True)
    ]
    save_json(
        record.folder / RECORD_NAME,
        {
            "protocol": predictor.protocol.to_json(),
            "classes": classes,
            "done": record.done,
            "skipped": record.skipped,
        },
    )
