"""How much of each image each class covers, as a table in a file: pixels, share, and square metres where known."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from atrous.core.files import save_text
from atrous.core.labels import LabelSpace
from atrous.core.records import Progress, ProgressCallback
from atrous.images.decode import load_mask
from atrous.images.place import read_place
from atrous.inference.folders.derived import DerivedFiles, LabelledFile

AREAS = "areas"
"""Name of the format."""
FILE = "areas.csv"
COLUMNS = ("image", "class", "id", "pixels", "share", "m2")
VOID_NAME = "void"


def build_areas(space: LabelSpace) -> DerivedFiles:
    """Return the table of classes: a row an image and class, also where the class covers nothing.

    Args:
        space: The classes. Pixels of other ids, which are not certain enough, are a row of their own where there are
            any.
    """

    def save(files: Sequence[LabelledFile], folder: Path, progress: ProgressCallback | None) -> None:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for number, file in enumerate(files, start=1):
            name = f"{file.image.key}{file.image.path.suffix}"
            writer.writerows((name, *row) for row in _list_rows(file, space))
            if progress is not None:
                progress(Progress("measuring areas", number, len(files)))
        save_text(folder / FILE, text.getvalue())

    return DerivedFiles(AREAS, [FILE], save, takes_huge=True)


def _list_rows(file: LabelledFile, space: LabelSpace) -> Iterator[tuple[str, int, int, str, str]]:
    counts = _count_ids(file.labels)
    total = int(counts.sum())
    place = read_place(file.image.path)
    pixel_m2 = place.pixel_m2 if place is not None else None
    names = dict(zip(space.ids, space.names, strict=True))
    others = [number for number in np.flatnonzero(counts).tolist() if number not in names]
    for number in (*names, *others):
        count = int(counts[number]) if number < len(counts) else 0
        area = "" if pixel_m2 is None else f"{count * pixel_m2:.10g}"
        yield names.get(number, VOID_NAME), number, count, f"{count / total:.8f}", area


def _count_ids(labels: Path) -> np.ndarray:
    """Return the number of pixels of each id in a file of labels."""
    if labels.suffix == ".tif":
        from atrous.images.tiff import TiffImage  # needs tifffile, which has read the image too

        with TiffImage(labels) as image:
            return sum(
                (np.bincount(samples.ravel(), minlength=2**16) for samples in image.iter_samples()),
                np.zeros(2**16, np.int64),
            )
    return np.bincount(load_mask(labels).ravel())
