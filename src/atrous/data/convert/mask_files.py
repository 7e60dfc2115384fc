"""Annotations that are masks already: which mask belongs to which image, and what its colours or values mean."""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from atrous.core.errors import DataError
from atrous.core.records import Progress
from atrous.core.words import describe_count
from atrous.data.convert.contracts import AnnotatedImage, AnnotationError, LabelledPixels, Request
from atrous.data.convert.files import read_label, read_text
from atrous.data.inventory import list_folder
from atrous.images.decode import load_image, load_mask

Colour = tuple[int, int, int]
FOLDERS = frozenset({"masks", "mask", "labels", "annotations", "gt", "ground_truth", "segmentationclass", "labelled"})
"""Folders of masks, in lower case."""
SUFFIX = re.compile(r"[_-](?:masks?|labels?|gt|seg|l)$", re.IGNORECASE)
"""What the name of a mask may end in, after that of its image."""
TOLERANCE = 16
"""Largest difference in a channel, of 255, between a pixel and the colour or value that it is taken for."""


def find_masks(source: Path) -> list[Path]:
    """Return the masks in a source: files in a folder of masks, or with a name that ends as those of masks do."""
    files = [path for paths in list_folder(source).files.values() for path in paths] if source.is_dir() else []
    return [path for path in files if _is_in_folder(path, source) or SUFFIX.search(path.stem)]


def _is_in_folder(path: Path, source: Path) -> bool:
    return any(part.lower() in FOLDERS for part in path.relative_to(source).parts[:-1])


def pair_masks(request: Request, read: Callable[[Path], LabelledPixels]) -> tuple[AnnotatedImage, ...]:
    """Return the images of a source with their masks; a mask without an image is reported.

    Args:
        request: The source.
        read: Reads a mask.
    """
    masks = find_masks(request.source)
    taken = set(masks)
    images = []
    for number, mask in enumerate(masks, start=1):
        with request.collecting(mask):
            image = _find_own_image(mask, taken, request)
            reader = functools.partial(read, mask)
            images.append(AnnotatedImage(str(mask), image, request.finder.get_key(image), (), read_mask=reader))
        request.progress(Progress("reading annotations", number, len(masks)))
    return tuple(images)


def _find_own_image(mask: Path, masks: set[Path], request: Request) -> Path:
    """Return the image of a mask.

    Raises:
        AnnotationError: There is none, or there are several.
    """
    stems = dict.fromkeys([mask.stem, SUFFIX.sub("", mask.stem)])
    below = mask.parent.as_posix()
    found = [path for stem in stems for path in request.finder.find_by_stem(f"{below}/{stem}", masks)]
    if len(found) != 1:
        several = f"{describe_count(len(found), 'image')} may be its own, such as {found[0]}" if found else ""
        raise AnnotationError("missing-image", several or "there is no image of this name")
    return found[0]


def read_table(file: Path) -> dict[str, Colour]:
    """Read the colours of classes: CVAT's labelmap.txt (`cat:250,50,83::`), or CSV with a name and three numbers.

    Args:
        file: The table.
    Raises:
        DataError: It has a line of another form, or a name or a colour twice.
    """
    rows = [line.strip() for line in read_text(file).splitlines()]
    rows = [line for line in rows if line and not line.startswith("#")]
    table: dict[str, Colour] = {}
    for number, line in enumerate(rows):
        if file.suffix.lower() == ".csv":
            name, *channels = [word.strip() for word in next(csv.reader([line]), [""])]
        else:
            name, _, rest = line.partition(":")
            channels = rest.partition(":")[0].split(",")
        values = [int(word) for word in channels if re.fullmatch(r"\s*\d{1,3}\s*", word)]
        if number == 0 and not values:
            continue  # the names of the columns
        label = read_label(name)
        if not label or len(values) != 3 or len(channels) != 3 or max(values) > 255:
            raise DataError(f"{file}: not a name and three numbers from 0 to 255: {line[:80]!r}")
        if label in table or tuple(values) in table.values():
            raise DataError(f"{file}: a name or a colour twice: {line[:80]!r}")
        table[label] = (values[0], values[1], values[2])
    if not table:
        raise DataError(f"{file}: no colours")
    return table


def read_colours(table: Mapping[str, Colour], mask: Path) -> LabelledPixels:
    """Read a mask in colour: each pixel has the label of the nearest colour within `TOLERANCE`.

    Args:
        table: The colour of each label.
        mask: The file.
    Raises:
        DataError: The file cannot be read.
    """
    pixels = load_image(mask).astype(np.int32)
    packed = pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2]
    found, inverse, counts = np.unique(packed, return_inverse=True, return_counts=True)
    colours = np.stack([found >> 16, found >> 8 & 255, found & 255], axis=1)
    nearest = np.zeros(len(found), np.int32)
    distance = np.full(len(found), 256)
    for index, colour in enumerate(table.values()):
        own = np.abs(colours - colour).max(axis=1)
        nearest[own < distance] = index
        distance = np.minimum(distance, own)
    nearest[distance > TOLERANCE] = -1
    unknown = np.flatnonzero(nearest < 0)
    problem = None
    if len(unknown):
        most = unknown[np.argmax(counts[unknown])]
        count = describe_count(int(counts[unknown].sum()), "pixel")
        message = (
            f"{count} of {describe_count(len(unknown), 'colour')} that no class has, so they are ignored; "
            f"the most frequent is {tuple(colours[most].tolist())}"
        )
        problem = AnnotationError("unknown-label", message)
    return LabelledPixels(nearest[inverse].reshape(packed.shape), tuple(table), problem)


def read_values(label: str, most: int, mask: Path) -> LabelledPixels:
    """Read a grey mask of one class besides background, which is 0.

    Args:
        label: The class.
        most: The value of the class, within `TOLERANCE`; 0: every value but 0 is the class.
        mask: The file.
    Raises:
        DataError: The file cannot be read as a grey mask.
    """
    numbers = load_mask(mask).astype(np.int64) if mask.suffix.lower() not in (".jpg", ".jpeg") else _load_grey(mask)
    if not most:
        return LabelledPixels((numbers != 0).astype(np.int32), ("background", label))
    indices = np.full(numbers.shape, -1, np.int32)
    indices[numbers <= TOLERANCE] = 0
    indices[np.abs(numbers - most) <= TOLERANCE] = 1
    problem = None
    if (indices < 0).any():
        count = describe_count(int((indices < 0).sum()), "pixel")
        problem = AnnotationError("unknown-label", f"{count} of values between 0 and {most}, so they are ignored")
    return LabelledPixels(indices, ("background", label), problem)


def _load_grey(mask: Path) -> np.ndarray:
    """Return the brightness of a JPEG."""
    return np.asarray(np.rint(load_image(mask).mean(axis=2)), np.int64)


def require_one_name(request: Request) -> str:
    """Return the name of the only class, which the user may have given.

    Raises:
        DataError: The user gave several.
    """
    if len(request.names) > 1:
        raise DataError(f"{request.source}: such masks have one class", f"Give one name: `classes={request.names[0]}`.")
    return request.names[0] if request.names else "object"
