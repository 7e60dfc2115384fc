"""Checks of images: what is unusual in their values, their kinds and their files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from atrous.core.findings import Finding, shorten_list
from atrous.core.words import describe_count
from atrous.data.checks.survey import Survey
from atrous.images.traits import ImageTraits

DARK = 24
"""Brightness, of 255, that no block of a dark image reaches."""
UNUSED_FACTOR = 8
"""A 16-bit image that stays below the range / this has levels that it does not use, as 12 bits in 16 have."""
SIXTEEN_BITS = 65535


def check_multi_page_image(survey: Survey) -> Iterator[Finding]:
    """Find images with several pages or frames, of which only the first would be read."""
    page = max((split.form.page or 0 for split in survey.splits), default=0)
    files = _list_images(survey, lambda traits: traits.num_pages < page if page else traits.num_pages > 1)
    if not files:
        return
    count = describe_count(len(files), "image")
    if page:
        message = f"{count} without a page {page}: {shorten_list(files)}"
        fix = "Name a page that all images have in data.page."
    else:
        message = f"{count} with several pages or frames: {shorten_list(files)}"
        fix = "Save each page as an image of its own, or name the page to read of all of them: data.page: 1."
    settings: dict[str, Any] = {**survey.exclude(files, few=True)} or ({} if page else {"page": 1})
    yield Finding("multi-page-image", "error", len(files), message, tuple(files), fix, settings)


def check_dark_images(survey: Survey) -> Iterator[Finding]:
    """Find images that are black or nearly so."""
    files = _list_images(survey, lambda traits: traits.bits == 8 and traits.brightest < DARK)
    if files and not survey.is_range_given:
        message = f"{describe_count(len(files), 'image')} nearly black everywhere: {shorten_list(files)}"
        fix = "Look at them: they may be empty, or of another range of values than 0 to 255."
        top = 2 ** max(item.traits.brightest for item in survey.items if item.traits).bit_length() - 1
        are_all = len(files) == len(survey.items)
        settings: Mapping[str, Any] = {"value_range": [0, max(top, 1)]} if are_all else survey.exclude(files)
        yield Finding("dark-images", "warning", len(files), message, tuple(files), fix, settings)


def check_unused_levels(survey: Survey) -> Iterator[Finding]:
    """Find 16-bit images that use a small part of their range, so that they are nearly black."""
    limit = SIXTEEN_BITS / UNUSED_FACTOR
    files = _list_images(survey, lambda traits: (traits.bits, traits.dtype) == (16, "uint16") and traits.peak < limit)
    if files and not survey.is_range_given:
        peak = max(item.traits.peak for item in survey.items if item.traits and item.traits.bits == 16)
        message = (
            f"{describe_count(len(files), 'image')} of 16 bits with no value above {SIXTEEN_BITS // UNUSED_FACTOR}, "
            f"so nearly black: {shorten_list(files)}"
        )
        top = 2 ** int(peak).bit_length() - 1
        fix = (
            f"The largest value of all 16-bit images is {peak:g}. Say which values are black and white, such as 0 and "
            f"{top}, or look at the files: they may be empty."
        )
        is_whole = all(item.traits is None or item.traits.bits == 16 for item in survey.items)
        settings: Mapping[str, Any] = {"value_range": [0, top]} if is_whole else survey.exclude(files)
        yield Finding("unused-levels", "warning", len(files), message, tuple(files), fix, settings)


def check_mixed_modes(survey: Survey) -> Iterator[Finding]:
    """Find that some images are grey and others in colour, or that they differ in their bits per channel."""
    if any(not split.form.is_photo for split in survey.splits):
        return  # which keep their bands and their type; images of another kind are channels-differ
    kinds: dict[str, list[str]] = {}
    for item in survey.items:
        if item.image and item.traits:
            is_grey = item.image.mode in ("1", "L", "LA") or item.image.mode.startswith("I")
            kind = ("16-bit " if item.traits.bits == 16 else "") + ("grey" if is_grey else "in colour")
            kinds.setdefault(kind, []).append(str(item.image_path))
    if len(kinds) > 1 and not survey.are_channels_given:
        ordered = sorted(kinds.items(), key=lambda row: len(row[1]))
        words = [f"{describe_count(len(files), 'image')} {kind} ({files[0]})" for kind, files in ordered]
        count, files = len(ordered[0][1]), tuple(ordered[0][1])
        message = f"images of different kinds: {', '.join(words)}"
        fix = "Check that they come from one source. A network sees grey as three equal channels."
        settings: Mapping[str, Any] = survey.exclude(files)
        settings = settings or {"channels": "rgb"}
        yield Finding("mixed-modes", "warning", count, message, files, fix, settings)


def check_icc_profile(survey: Survey) -> Iterator[Finding]:
    """Find images with a colour profile other than sRGB, which is applied, or cannot be."""
    are_photos = all(split.form.is_photo for split in survey.splits)
    applied = _list_images(survey, lambda traits: traits.profile == "applied")
    ignored = _list_images(survey, lambda traits: traits.profile == "ignored")
    for files, words in (
        (applied, "converted to sRGB" if are_photos else "which does not count: stored values are read"),
        (ignored, "which cannot be applied: it is damaged or does not fit them"),
    ):
        if files:
            message = f"{describe_count(len(files), 'image')} with a colour profile other than sRGB, {words}: "
            yield Finding("icc-profile", "note", len(files), message + shorten_list(files), tuple(files))


def _list_images(survey: Survey, is_unusual: Callable[[ImageTraits], bool]) -> list[str]:
    return [str(item.image_path) for item in survey.items if item.traits and is_unusual(item.traits)]
