"""What passes between a format and a conversion: annotated images with their regions, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from atrous.core.errors import DataError
from atrous.core.labels import LabelSpace
from atrous.core.records import Note, Progress, ProgressCallback
from atrous.core.words import describe_count
from atrous.data.convert.files import find_files
from atrous.data.convert.images import ImageFinder

BACKGROUND_NAMES = frozenset({"background", "_background_", "__background__"})
"""Labels that mean id 0, in lower case."""
IGNORED_NAMES = frozenset({"__ignore__", "_ignore_", "ignore", "void"})
"""Labels whose pixels are neither trained on nor scored, in lower case."""
IGNORED_NAME = "__ignore__"
"""The one of them that is written."""
Code = Literal[
    "broken-annotation",
    "broken-file",
    "broken-rle",
    "duplicate-name",
    "missing-image",
    "no-pixel",
    "outside",
    "too-few-points",
    "unknown-label",
    "unreadable-image",
    "wrong-size",
]


class AnnotationError(ValueError):
    """An annotation that cannot be converted; the rest of its file can.

    Args:
        code: What is wrong, for programs.
        message: What is wrong, for people.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code: Code = code


@dataclass(frozen=True)
class Problem:
    """Something in a source that was not converted as it is.

    Args:
        code: What is wrong, for programs.
        file: The file that holds it, or the image concerned.
        message: Which annotation, and what is wrong with it.
    """

    code: Code
    file: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}: {self.message}"


class Patch(NamedTuple):
    """Pixels of a region, in the part of the image that holds them.

    Args:
        top: First row of the part.
        left: First column of the part.
        pixels: (h, w) bool, the pixels of the region.
        beyond_px: How far its points are outside the image, which cuts it.
    """

    top: int
    left: int
    pixels: np.ndarray
    beyond_px: float = 0.0


@dataclass(frozen=True)
class Region:
    """One annotation of an image.

    Args:
        label: Name of its class.
        where: Which annotation of its file it is, for messages, such as "shape 3".
        draw: Returns its pixels in an image of a height and a width; raises AnnotationError.
    """

    label: str
    where: str
    draw: Callable[[int, int], Patch]


class LabelledPixels(NamedTuple):
    """A mask whose pixels have labels instead of ids.

    Args:
        indices: (H, W) integers: for each pixel its label, -1 for none.
        labels: The labels.
        problem: What is wrong with pixels that have none; None if nothing is.
    """

    indices: np.ndarray
    labels: tuple[str, ...]
    problem: AnnotationError | None = None


@dataclass(frozen=True)
class AnnotatedImage:
    """An image with its annotations.

    Args:
        source: The file that annotates it, for messages.
        image: Its file, or a function that returns its encoded bytes.
        key: Its path without suffix in the converted data, such as "train/photo".
        regions: Its annotations; where they overlap, later ones are on top.
        size: Height and width that the annotations are for; None if not known.
        read_mask: Returns the mask of all its pixels, which the regions are drawn over; None if there is none. It
            raises AnnotationError and DataError.
        name: What the source calls it: a path or a link.
    """

    source: str
    image: Path | Callable[[], bytes]
    key: str
    regions: tuple[Region, ...]
    size: tuple[int, int] | None = None
    read_mask: Callable[[], LabelledPixels] | None = None
    name: str = ""


@dataclass(frozen=True)
class Annotations:
    """All that a source holds.

    Args:
        images: Its images.
        classes: Names of its classes by the id that each should get; None if the order of `names` gives the ids.
        names: Names of its classes in the order of the ids that they should get; beside `classes`, its other labels.
        smaller_on_top: Whether the regions of an image have no order, so that a smaller one is drawn over a larger one.
        notes: What else the user should know.
    """

    images: tuple[AnnotatedImage, ...]
    classes: Mapping[int, str] | None = None
    names: tuple[str, ...] = ()
    smaller_on_top: bool = False
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class Request:
    """What a format receives to read a source.

    Args:
        source: The file or folder.
        finder: Finds images by the names that annotations have for them.
        line_width_px: Width in pixels of lines, which have none in any format.
        names: Names that the user gave to classes other than background, in the order of their ids; most formats have
            names of their own.
        report: Receives what is not converted.
        progress: Receives the progress.
    """

    source: Path
    finder: ImageFinder
    line_width_px: int
    names: tuple[str, ...]
    report: Callable[[Problem], None]
    progress: ProgressCallback

    @property
    def root(self) -> Path:
        """The folder of the source."""
        return self.source if self.source.is_dir() else self.source.parent

    def iter_files(self, suffix: str) -> Iterator[Path]:
        """Yield the files of the source with a suffix, and report the progress after each.

        Args:
            suffix: In lower case, with its dot.
        """
        files = find_files(self.source, suffix)
        for number, file in enumerate(files, start=1):
            yield file
            self.progress(Progress("reading annotations", number, len(files)))

    def list_unused(self, used: Collection[Any], what: str) -> tuple[Note, ...]:
        """Return a note about images that have no annotations, if there are any.

        Args:
            used: The images that have some.
            what: What the others lack, such as "a JSON file".
        """
        unused = sum(image not in used for image in self.finder)
        message = f"{describe_count(unused, 'image')} without {what} skipped"
        return (Note("images-not-annotated", message),) if unused else ()

    @contextmanager
    def collecting(self, file: Path, where: str = "") -> Iterator[None]:
        """Report what stops the block because of a file.

        Args:
            file: The file that is read in the block.
            where: Which of its annotations, such as "shape 3".
        """
        try:
            yield
        except AnnotationError as error:
            self.report(Problem(error.code, str(file), f"{where}: {error}" if where else str(error)))
        except DataError as error:
            self.report(Problem("broken-file", str(file), error.message.removeprefix(f"{file}: ")))

    def find_image(self, name: Any, beside: Path | None = None) -> Path | None:
        """Return the image that a name means; None if there is none.

        Args:
            name: The name as a file has it.
            beside: Folder of that file, whose images are preferred.
        Raises:
            AnnotationError: There are several.
        """
        found = self.finder.find(name, beside) if isinstance(name, str) else []
        if len(found) > 1:
            count = describe_count(len(found), "image")
            raise AnnotationError("missing-image", f"{count} are named {name[:200]!r}, such as {found[0]}")
        return found[0] if found else None

    def require_image(self, name: Any, beside: Path | None = None) -> Path:
        """Return the image that a name means.

        Args:
            name: The name as a file has it.
            beside: Folder of that file, whose images are preferred.
        Raises:
            AnnotationError: There is none, or there are several.
        """
        image = self.find_image(name, beside)
        if image is None:
            raise AnnotationError("missing-image", f"there is no image {str(name)[:200]!r}")
        return image


@dataclass(frozen=True)
class LabelledImage:
    """An image with the ids of its pixels, to be written as annotations.

    Args:
        key: Its path without suffix below the folder of all images, such as "train/photo".
        image: Its file.
        read: Returns the ids, (H, W) integers.
    """

    key: str
    image: Path
    read: Callable[[], np.ndarray]

    @property
    def name(self) -> str:
        """Its path below the folder of all images."""
        return f"{self.key}{self.image.suffix}"


@dataclass(frozen=True)
class Export:
    """What is written as annotations.

    Args:
        folder: Where to; it exists.
        label_space: The classes.
        images: The images, read one after another.
    """

    folder: Path
    label_space: LabelSpace
    images: Iterable[LabelledImage]

    @property
    def background(self) -> int | None:
        """The id that needs no annotation; None if 0 is another class."""
        names = dict(zip(self.label_space.ids, self.label_space.names, strict=True))
        return 0 if names.get(0, IGNORED_NAME).lower() in BACKGROUND_NAMES else None

    def get_name(self, number: int) -> str:
        """Return the label of an id; one for all that are no class."""
        names = dict(zip(self.label_space.ids, self.label_space.names, strict=True))
        return names.get(number, IGNORED_NAME)


@dataclass(frozen=True)
class Converter:
    """A format: an entry of `CONVERTERS`.

    Args:
        recognise: Returns whether a file or a folder looks like this format; never raises, and reads little.
        read: Reads a source.
        holds: What a source of this format is, for messages.
        write: Writes annotations; None if this format is only read.
        file: Name of the file that it writes: one for each image if it has `{key}`.
    """

    recognise: Callable[[Path], bool]
    read: Callable[[Request], Annotations]
    holds: str
    write: Callable[[Export], None] | None = None
    file: str = ""


@dataclass(frozen=True)
class Conversion:
    """What a conversion did.

    Args:
        format: Name of the format.
        folder: The folder that was written; None if none was to be.
        images: Number of images that were converted.
        label_space: The classes.
        pixels: Pixels of each id in all masks.
        overlapping_px: Pixels with annotations of several classes.
        problems: What was not converted as it is.
        notes: What was assumed.
    """

    format: str
    folder: Path | None
    images: int
    label_space: LabelSpace
    pixels: Mapping[int, int]
    overlapping_px: int
    problems: tuple[Problem, ...] = ()
    notes: tuple[Note, ...] = field(default=())

    def describe(self) -> str:
        """Return what was done in one line."""
        problems = f", {describe_count(len(self.problems), 'problem')}" if self.problems else ""
        classes = describe_count(self.label_space.num_classes, "class")
        return f"{describe_count(self.images, 'image')}, {classes}{problems}"

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON."""
        space = self.label_space
        return {
            "format": self.format,
            "folder": None if self.folder is None else str(self.folder),
            "images": self.images,
            "classes": [
                {"id": number, "name": name, "pixels": self.pixels.get(number, 0)}
                for number, name in zip(space.ids, space.names, strict=True)
            ],
            "ignored_pixels": self.pixels.get(space.void_id, 0),
            "overlapping_pixels": self.overlapping_px,
            "problems": [asdict(problem) for problem in self.problems],
            "notes": [note.to_json() for note in self.notes],
        }
