"""From the annotations of one image to its mask."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from atrous.core.errors import DataError
from atrous.core.labels import LabelSpace
from atrous.data.convert.contracts import AnnotatedImage, AnnotationError, Patch, Problem, Region
from atrous.data.writing import FolderWriter
from atrous.images.decode import load_header

ROUNDING_PX = 1.0
"""How far outside the image coordinates may be: tools round them, or mean the centres of pixels."""
LARGEST_PX = 2**28
"""More pixels than Pillow decodes; the header of a TIFF may ask for any number of them."""
_JPEG_START = b"\xff\xd8"


@dataclass(frozen=True)
class Painted:
    """One image after its conversion.

    Args:
        problems: What was not converted as it is.
        is_done: Whether it was converted.
        overlapping_px: Pixels with annotations of several classes.
        counts: Pixels of each id.
    """

    problems: tuple[Problem, ...]
    is_done: bool = False
    overlapping_px: int = 0
    counts: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Painter:
    """Turns one annotated image after another into a pair of files; threads may share one.

    Args:
        smaller_on_top: Whether smaller regions are drawn over larger ones, whatever their order.
        ids: The id of each label.
        space: The classes.
        writer: Writes the pairs; None: nothing is written.
    """

    smaller_on_top: bool
    ids: Mapping[str, int]
    space: LabelSpace
    writer: FolderWriter | None

    def convert(self, item: AnnotatedImage) -> Painted:
        """Convert an image."""
        problems: list[Problem] = []
        name = str(item.image) if isinstance(item.image, Path) else item.source
        try:
            image = item.image if isinstance(item.image, Path) else item.image()
            header = load_header(image)
            size = (header.height, header.width)
            _require_size(item.size or size, size, is_turned=header.is_turned)
            embedded = ".jpg" if isinstance(image, bytes) and image.startswith(_JPEG_START) else ".png"
            suffix = image.suffix if isinstance(image, Path) else embedded
            mask = self._start(item, size, problems)
        except AnnotationError as error:
            return Painted((Problem(error.code, name, str(error)),))
        except DataError as error:
            return Painted((Problem("unreadable-image", name, error.message.removeprefix(f"{name}: ")),))
        overlapping_px = self._paint(item, mask, problems)
        if self.writer is not None:
            self.writer.write(item.key, image, suffix, mask)
        numbers, counts = (array.tolist() for array in np.unique(mask, return_counts=True))
        return Painted(tuple(problems), True, overlapping_px, dict(zip(numbers, counts, strict=True)))

    def _start(self, item: AnnotatedImage, size: tuple[int, int], problems: list[Problem]) -> np.ndarray:
        """Return the ids of an image before its regions are drawn.

        Raises:
            AnnotationError: Its mask has another size.
            DataError: Its mask cannot be read.
        """
        largest = max(*self.space.ids, self.space.void_id)
        dtype = np.uint8 if largest < 256 else np.uint16
        if item.read_mask is None:
            return np.zeros(size, dtype)
        indices, labels, problem = item.read_mask()
        _require_size((indices.shape[0], indices.shape[1]), size, is_turned=False)
        if problem is not None:
            problems.append(Problem(problem.code, item.source, str(problem)))
        numbers = [self.ids.get(label, self.space.void_id) for label in labels]
        for index, label in enumerate(labels):
            if label not in self.ids and (indices == index).any():
                message = f"{label!r} is not among the classes, so its pixels are ignored"
                problems.append(Problem("unknown-label", item.source, message))
        return np.asarray(np.array([*numbers, self.space.void_id], dtype)[indices])

    def _paint(self, item: AnnotatedImage, mask: np.ndarray, problems: list[Problem]) -> int:
        """Draw the regions of an image, and return how many pixels are in several classes."""
        overlapping_px = 0
        drawn = self._draw(item, (mask.shape[0], mask.shape[1]), problems)
        if self.smaller_on_top:
            drawn = sorted(drawn, key=lambda pair: -np.count_nonzero(pair[1].pixels))
        for number, (top, left, pixels, _) in drawn:
            part = mask[top : top + pixels.shape[0], left : left + pixels.shape[1]]
            if number not in (0, self.space.void_id):  # a hole is meant to be over something
                overlapping_px += int(np.count_nonzero(pixels & (part != 0) & (part != number)))
            part[pixels] = number
        return overlapping_px

    def _draw(
        self, item: AnnotatedImage, size: tuple[int, int], problems: list[Problem]
    ) -> Iterable[tuple[int, Patch]]:
        """Yield the id and the pixels of each region that can be drawn."""
        for region in item.regions:
            try:
                patch = region.draw(*size)
                if not patch.pixels.any():
                    raise AnnotationError("no-pixel", "it covers no pixel of the image")
                if patch.beyond_px > ROUNDING_PX:
                    message = f"it reaches {patch.beyond_px:.0f} pixels beyond the image, where it is cut"
                    problems.append(_describe_problem(item, region, AnnotationError("outside", message)))
            except AnnotationError as error:
                problems.append(_describe_problem(item, region, error))
                continue
            number = self.ids.get(region.label)
            if number is None:
                unknown = AnnotationError("unknown-label", "not among the classes, so its pixels are ignored")
                problems.append(_describe_problem(item, region, unknown))
            yield self.space.void_id if number is None else number, patch


def _describe_problem(item: AnnotatedImage, region: Region, error: AnnotationError) -> Problem:
    return Problem(error.code, item.source, f"{region.where} ({region.label!r}): {error}")


def _require_size(annotated: tuple[int, int], size: tuple[int, int], *, is_turned: bool) -> None:
    """Refuse annotations for an image of another size, or for one that is too large.

    Raises:
        AnnotationError: The sizes differ, or no mask of this size can be held.
    """
    if size[0] * size[1] > LARGEST_PX:
        raise AnnotationError("unreadable-image", f"{size[0]}x{size[1]} pixels (height x width): cut it into tiles")
    if annotated != size:
        line = f"annotated at {annotated[0]}x{annotated[1]} (height x width), the image is {size[0]}x{size[1]}"
        turned = " after its EXIF orientation: it was annotated unrotated, so remove that tag from the image"
        raise AnnotationError("wrong-size", line + turned * (is_turned and annotated == size[::-1]))
