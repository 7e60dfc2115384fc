"""Masks that exist as annotations: the way back from ids to what labelling tools read."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from atrous.core.errors import DataError, UsageError, note_on_stop
from atrous.core.files import atomic_path
from atrous.core.output_folder import hold_folder
from atrous.core.records import Progress, ProgressCallback
from atrous.core.registry import describe_choices
from atrous.data import CONVERTERS, WRITTEN
from atrous.data.contracts import SegmentationDataset
from atrous.data.convert.contracts import Converter, Export, LabelledImage
from atrous.data.samples import find_window
from atrous.data.writing import require_empty
from atrous.images.encode import encode_png, save_encoded

IMAGES = "images"
"""Folder of the images beside their annotations."""


def require_writer(name: str) -> tuple[Callable[[Export], None], str]:
    """Return what writes annotations in a format, and the name of its file, see `Converter`.

    Raises:
        UsageError: There is no such format, or it is only read.
    """
    writable = CONVERTERS.find_tagged(WRITTEN)
    if name not in writable:
        raise UsageError(f"{name!r} is no format of annotations that is written", describe_choices(name, writable))
    converter: Converter = CONVERTERS.load(name)
    return converter.write, converter.file  # type: ignore[return-value]  # what has the tag has a writer


def export_dataset(dataset: SegmentationDataset, to_format: str, out: Path, progress: ProgressCallback) -> None:
    """Write a data set as images with annotations.

    Args:
        dataset: Images and masks.
        to_format: A name of `CONVERTERS`.
        out: The folder, empty or not existing; images are below `images/` in it.
        progress: Receives the progress.
    Raises:
        UsageError: The format is only read, or the folder is not empty.
        DataError: A mask cannot be read.
        MachineError: The disk is full or refuses to be written.
    """
    write, file = require_writer(to_format)
    require_empty(out)

    def iter_images() -> Iterator[LabelledImage]:
        for index in range(len(dataset)):
            key, source = dataset.key(index), dataset.image_path(index)
            if find_window(dataset, index) is not None:
                raise DataError(
                    f"{source}: is read in windows, and annotations are of whole images",
                    "Cut the image and its mask into smaller ones.",
                )
            target = out / IMAGES / f"{key}{'.png' if source is None else source.suffix}"
            if source is None:
                save_encoded(target, encode_png(dataset.get(index).image))
            else:
                with atomic_path(target) as temporary:
                    shutil.copyfile(source, temporary)
            yield LabelledImage(key, target, functools.partial(dataset.mask, index))
            progress(Progress("converting", index + 1, len(dataset)))

    with hold_folder(out), note_on_stop(lambda _: f"{out} is not complete: remove it before the next try."):
        require_empty(out)
        write(Export(out / IMAGES if "{key}" in file else out, dataset.label_space, iter_images()))
