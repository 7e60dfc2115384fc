"""Checks of files: images and masks that cannot be read or do not fit each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from atrous.core.findings import Finding, shorten_list
from atrous.core.words import describe_count
from atrous.data.checks.survey import Survey
from atrous.data.facts import describe_size_mismatch


def check_unreadable_image(survey: Survey) -> Iterator[Finding]:
    """Find images that cannot be decoded: of an unknown kind, or damaged."""
    yield from list_errors(survey, "unreadable-image", "{} that cannot be read")


def check_truncated_image(survey: Survey) -> Iterator[Finding]:
    """Find images that end before their last pixel, as after an interrupted download."""
    yield from list_errors(survey, "truncated-image", "{} cut off before the end")


def check_unreadable_mask(survey: Survey) -> Iterator[Finding]:
    """Find masks that cannot be read as ids."""
    yield from list_errors(survey, "unreadable-mask", "{} that cannot be read")


def check_size_mismatch(survey: Survey) -> Iterator[Finding]:
    """Find masks whose size is not that of their image."""
    found = [(path, line) for path, line, is_transposed in _list_mismatches(survey) if not is_transposed]
    if found:
        files, lines = zip(*found, strict=True)
        message = f"{describe_count(len(lines), 'pair')} with different sizes: {shorten_list(lines)}"
        fix = "Masks are never resized to fit: export them again at the size of the image."
        yield Finding("size-mismatch", "error", len(lines), message, files, fix, survey.exclude(files))


def check_transposed_mask(survey: Survey) -> Iterator[Finding]:
    """Find masks with the height of their image as width, and its width as height."""
    found = [(path, line) for path, line, is_transposed in _list_mismatches(survey) if is_transposed]
    if found:
        files, lines = zip(*found, strict=True)
        message = f"{describe_count(len(lines), 'mask')} rotated or transposed: {shorten_list(lines)}"
        fix = "Rotate the masks by a quarter turn, or export them again, and look at the result."
        yield Finding("transposed-mask", "error", len(lines), message, files, fix, survey.exclude(files))


def _list_mismatches(survey: Survey) -> Iterator[tuple[str, str, bool]]:
    """Yield the image of each pair with two sizes, its description, and whether one size is the other transposed."""
    for item in survey.items:
        if item.image and item.mask and item.image_path and item.mask_path:
            line = describe_size_mismatch(item.image_path, item.image, item.mask_path, item.mask.size)
            size = (item.image.height, item.image.width)
            if line:
                yield str(item.image_path), line, size[::-1] == item.mask.size and not item.image.is_turned


def check_exif_rotated(survey: Survey) -> Iterator[Finding]:
    """Find images that are rotated by their EXIF orientation."""
    files = [str(item.image_path) for item in survey.items if item.image and item.image.is_turned]
    if files:
        count = describe_count(len(files), "image")
        message = f"{count} with an EXIF orientation, which is applied to images and not to masks"
        yield Finding("exif-rotated", "note", len(files), message, tuple(files))


def list_errors(survey: Survey, code: str, words: str, settings: Mapping[str, Any] | None = None) -> Iterator[Finding]:
    """List the files whose errors have a code.

    Args:
        survey: What is known of the data.
        code: The code; unreadable-image and unreadable-mask are of errors whose code is no check of its own.
        words: What is wrong, with {} for "3 images".
        settings: What solves it. Default: a few files are excluded.
    """
    noun = "image" if code.endswith("image") else "mask"
    found = [
        (path, error)
        for item in survey.items
        for path, error, kind in (
            (item.image_path, item.image_error, "image"),
            (item.mask_path, item.mask_error, "mask"),
        )
        if error is not None and kind == noun
        if (error.code if error.code.endswith(noun) else f"unreadable-{noun}") == code
    ]
    if found:
        message = f"{words.format(describe_count(len(found), noun))}: {shorten_list([e.message for _, e in found])}"
        files = tuple(str(path) for path, _ in found)
        fix = " ".join(dict.fromkeys(error.hint for _, error in found if error.hint))
        yield Finding(code, "error", len(found), message, files, fix, settings or survey.exclude(files))
