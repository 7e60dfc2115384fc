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
from atrous.inference.folders.derived import DerivedFiles, LabelledFile
from atrous.inference.folders.inputs import ImageFile
from atrous.inference.folders.record import RECORD_NAME


def build_annotations(name: str, files: Sequence[ImageFile], space: LabelSpace) -> DerivedFiles:
    """Return the annotations of some images.

    Args:
        name: A format.
        files: The images.
        space: The classes.
    Raises:
        UsageError: The format is only read, or a file would have the name of the record.
    """
    write, form = require_writer(name)
    names = list(dict.fromkeys(form.format(key=image.key) for image in files))
    if RECORD_NAME in names:
        raise UsageError(
            f"format {name}: the annotations of an image would have the name {RECORD_NAME}, which the record has",
            "Rename the image, or choose another format.",
        )

    def save(labelled: Sequence[LabelledFile], folder: Path, progress: ProgressCallback | None) -> None:
        def iter_images() -> Iterator[LabelledImage]:
            for number, file in enumerate(labelled, start=1):
                read = functools.partial(load_mask, file.labels)
                yield LabelledImage(file.image.key, file.image.path.absolute(), read)
                if progress is not None:
                    progress(Progress(f"writing {name}", number, len(labelled)))

        write(Export(folder.absolute(), space, iter_images()))

    return DerivedFiles(f"format {name}", names, save)
