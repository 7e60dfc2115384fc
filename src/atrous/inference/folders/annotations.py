"""Predictions as annotations that labelling tools read: made of the labels in a folder, whenever they were written."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

from atrous.core.errors import UsageError
from atrous.core.labels import LabelSpace
from atrous.core.records import Progress, ProgressCallback
from atrous.data.convert.contracts import Export, LabelledImage
from atrous.data.convert.export import require_writer
from atrous.images.decode import load_mask
from atrous.inference.folders.inputs import ImageFile
from atrous.inference.folders.record import RECORD_NAME


def list_annotation_names(name: str, files: Sequence[ImageFile]) -> list[str]:
    """Return the names of the files of annotations, below the folder.

    Args:
        name: A format.
        files: The images.
    Raises:
        UsageError: One of them would have the name of the record.
    """
    _, file = require_writer(name)
    names = list(dict.fromkeys(file.format(key=image.key) for image in files))
    if RECORD_NAME in names:
        raise UsageError(
            f"format {name}: the annotations of an image would have the name {RECORD_NAME}, which the record has",
            "Rename the image, or choose another format.",
        )
    return names


def save_annotations(
    name: str, files: Sequence[ImageFile], folder: Path, space: LabelSpace, progress: ProgressCallback | None
) -> None:
    """Write the annotations of images whose labels are in a folder.

    Args:
        name: A format.
        files: The images that have labels.
        folder: The folder.
        space: The classes.
        progress: Receives the progress.
    Raises:
        DataError: Labels cannot be read.
        MachineError: A file cannot be written.
    """
    write, _ = require_writer(name)

    def iter_images() -> Iterator[LabelledImage]:
        for number, file in enumerate(files, start=1):
            read = functools.partial(load_mask, folder / f"{file.key}.png")
            yield LabelledImage(file.key, file.path.absolute(), read)
            if progress is not None:
                progress(Progress(f"writing {name}", number, len(files)))

    write(Export(folder.absolute(), space, iter_images()))
