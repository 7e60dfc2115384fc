"""Annotations that are masks already: which mask belongs to which image, and what its colours or values mean."""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from atrous.core.errors import DataError
from atrous.core.records import Progress
from atrous.core.words import describe_count
from atrous.data.convert.contracts import AnnotatedImage, AnnotationError, LabelledPixels, Request
from atrous.data.convert.files import read_label, read_text
from atrous.data.convert.images import ANNOTATION_FOLDERS
from atrous.data.inventory import list_folder
from atrous.images.decode import load_image, load_mask

Colour = tuple[int, int, int]
_OBJECT_FOLDER = "segmentationobject"
"""VOC's folder of the same masks by object, in lower case: neither masks of classes nor images."""
SUFFIX = re.compile(r"[_-](?:masks?|labels?|gt|seg|l)$", re.IGNORECASE)
"""What the name of a mask may end in, after that of its image."""
_NUMBER = re.compile(r"[_-]\d+$")
"""What the name of a mask of one object may end in."""
TOLERANCE = 16
"""Largest difference in a channel, of 255, between a pixel and the colour or value that it is taken for."""


def find_masks(source: Path) -> list[Path]:
    """Return the masks in a source: files in a folder of masks, or with a name that ends as those of masks do."""
    files = [Path(file) for file in list_folder(source).all_files] if source.is_dir() else []
    folders = {path: {part.lower() for part in path.relative_to(source).parts[:-1]} for path in files}
    return [
        path
        for path in files
        if _OBJECT_FOLDER not in folders[path] and (folders[path] & ANNOTATION_FOLDERS or SUFFIX.search(path.stem))
    ]


def pair_masks(
    request: Request, read: Callable[[Sequence[Path]], LabelledPixels], *, several: bool = False
) -> tuple[AnnotatedImage, ...]:
    """Return the images of a source with their masks; a mask without an image is reported.

    Args:
        request: The source.
        read: Reads the masks of an image.
        several: Whether an image may have several masks: in a folder of its name, or with a number after its name.
    """
    masks = find_masks(request.source)
    taken = {*masks, *(path for path in request.finder if _OBJECT_FOLDER in path.parent.as_posix().lower().split("/"))}
    found: dict[Path, list[Path]] = {}
    for number, mask in enumerate(masks, start=1):
        with request.collecting(mask):
            found.setdefault(_find_own_image(mask, taken, request, several=several), []).append(mask)
        request.progress(Progress("reading annotations", number, len(masks)))
    images = []
    for image, own in found.items():
        with request.collecting(own[-1]):
            _require_one_kind(image, own, masks, several=several)
            reader = functools.partial(read, own)
            images.append(AnnotatedImage(str(own[0]), image, request.finder.get_key(image), (), read_mask=reader))
    return tuple(images)


def _find_own_image(mask: Path, others: set[Path], request: Request, *, several: bool) -> Path:
    """Return the image of a mask.

    Raises:
        AnnotationError: There is none, or there are several.
    """
    names = [mask.stem, SUFFIX.sub("", mask.stem)]
    places = [mask.parent / name for name in names]
    if several:
        places += [mask.parent / _NUMBER.sub("", name) for name in names]
        places += [place for place in mask.parents if place.name.lower() not in ANNOTATION_FOLDERS][:1]
    for place in places:
        found = request.finder.find_by_stem(place.as_posix(), others)
        if len(found) > 1:
            count = describe_count(len(found), "image")
            raise AnnotationError("missing-image", f"{count} may be its own, such as {found[0]}")
        if found:
            return found[0]
    raise AnnotationError("missing-image", "there is no image of this name")


def _require_one_kind(image: Path, own: Sequence[Path], masks: Sequence[Path], *, several: bool) -> None:
    """Refuse masks that are alternatives, or of which one may be of another image.

    Args:
        image: The image.
        own: Its masks.
        masks: The masks of all images.
        several: Whether an image may have several masks.
    Raises:
        AnnotationError: They are.
    """
    if not several or any(SUFFIX.sub("", mask.stem) == image.stem for mask in own):
        others = own[1:]
    else:  # those that are of another image if their number belongs to its name
        beside = [mask for mask in masks if mask.parent == own[0].parent and mask not in own]
        others = [mask for mask in beside if _NUMBER.sub("", SUFFIX.sub("", mask.stem)) == image.stem]
    if others:
        what = f"image {image.name} may have {own[0].name} and {others[0].name}"
        raise AnnotationError("duplicate-name", f"{what}: remove the mask that is not meant, or rename it")


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


def read_colours(table: Mapping[str, Colour], masks: Sequence[Path]) -> LabelledPixels:
    """Read a mask in colour: each pixel has the label of the nearest colour within `TOLERANCE`.

    Args:
        table: The colour of each label.
        masks: The file.
    Raises:
        DataError: The file cannot be read.
    """
    pixels = load_image(masks[0]).astype(np.int32)
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


def read_binary(label: str, masks: Sequence[Path]) -> LabelledPixels:
    """Read a grey mask of background, 0, and one class, 255 or 1; values of a JPEG may be off by `TOLERANCE`.

    Args:
        label: The class.
        masks: The file.
    Raises:
        AnnotationError: Its values are ids of several classes.
        DataError: The file cannot be read as a grey mask.
    """
    (mask,) = masks
    is_lossy = mask.suffix.lower() in (".jpg", ".jpeg")
    numbers = _load_grey(mask) if is_lossy else load_mask(mask).astype(np.int64)
    largest = int(numbers.max())
    if not is_lossy and 1 < largest <= TOLERANCE:
        raise AnnotationError("unknown-label", f"its values are from 0 to {largest}, not 0 and 255: are they ids?")
    indices = np.full(numbers.shape, -1, np.int32)
    indices[numbers <= TOLERANCE] = 0
    indices[(numbers - 255 >= -TOLERANCE) & (numbers <= 255)] = 1
    if largest == 1 and not is_lossy:
        indices[numbers == 1] = 1
    problem = None
    if (indices < 0).any():
        count = describe_count(int((indices < 0).sum()), "pixel")
        problem = AnnotationError("unknown-label", f"{count} of values other than 0 and 255, so they are ignored")
    return LabelledPixels(indices, ("background", label), problem)


def read_objects(label: str, masks: Sequence[Path]) -> LabelledPixels:
    """Read grey masks of objects of one class: in each of them every value but 0 is an object.

    Args:
        label: The class.
        masks: The files, one for all objects or one for each.
    Raises:
        AnnotationError: They differ in size.
        DataError: A file cannot be read as a grey mask.
    """
    whole = load_mask(masks[0]) != 0
    for mask in masks[1:]:
        own = load_mask(mask) != 0
        if own.shape != whole.shape:
            raise AnnotationError("wrong-size", f"{mask.name} is of another size than {masks[0].name}")
        whole |= own
    return LabelledPixels(whole.astype(np.int32), ("background", label))


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
