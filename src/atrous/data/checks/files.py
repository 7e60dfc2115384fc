"""Checks of files: images and masks that cannot be read or do not fit each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from atrous.core.errors import DataError
from atrous.core.findings import Finding, shorten_list
from atrous.core.words import describe_count
from atrous.data.checks.survey import Survey
from atrous.data.facts import describe_size_mismatch


def check_unreadable_image(survey: Survey) -> Iterator[Finding]:
    """Find images that cannot be decoded: of an unknown kind, truncated or damaged."""
    for split in survey.splits:
        found = [(item.image_path, item.image_error) for item in split.items if item.image_error]
        yield from _list_unreadable("unreadable-image", "image", found)


def check_unreadable_mask(survey: Survey) -> Iterator[Finding]:
    """Find masks that cannot be read as ids."""
    for split in survey.splits:
        found = [(item.mask_path, item.mask_error) for item in split.items if item.mask_error]
        yield from _list_unreadable("unreadable-mask", "mask", found)


def check_size_mismatch(survey: Survey) -> Iterator[Finding]:
    """Find masks whose size is not that of their image."""
    for split in survey.splits:
        lines, files = [], []
        for item in split.items:
            if item.image and item.mask and item.image_path and item.mask_path:
                line = describe_size_mismatch(item.image_path, item.image, item.mask_path, item.mask.size)
                if line:
                    lines.append(line)
                    files.append(str(item.image_path))
        if lines:
            yield Finding(
                "size-mismatch",
                "error",
                len(lines),
                f"{describe_count(len(lines), 'pair')} with different sizes: {shorten_list(lines)}",
                tuple(files),
                "Masks are never resized to fit: export them again at the size of the image.",
            )


def check_exif_rotated(survey: Survey) -> Iterator[Finding]:
    """Find images that are rotated by their EXIF orientation."""
    for split in survey.splits:
        files = [str(item.image_path) for item in split.items if item.image and item.image.is_turned]
        if files:
            message = (
                f"{split.name}: {describe_count(len(files), 'image')} with an EXIF orientation, "
                "which is applied to images and not to masks"
            )
            yield Finding("exif-rotated", "note", len(files), message, tuple(files))


def _list_unreadable(code: str, noun: str, found: Sequence[tuple[Path | None, DataError | None]]) -> Iterator[Finding]:
    errors = [error for _, error in found if error is not None]
    if errors:
        yield Finding(
            code,
            "error",
            len(errors),
            f"{describe_count(len(errors), noun)} that cannot be read: {shorten_list([e.message for e in errors])}",
            tuple(str(path) for path, _ in found),
            " ".join(dict.fromkeys(error.hint for error in errors if error.hint)),
        )
