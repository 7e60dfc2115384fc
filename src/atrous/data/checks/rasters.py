"""Checks of rasters: bands, ranges of values, pixels without data, and places on the Earth."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

from atrous.core.findings import Finding, shorten_list
from atrous.core.words import describe_count
from atrous.data.checks.survey import Survey
from atrous.images.bands import describe_misfit
from atrous.images.place import describe_shift
from atrous.images.samples import StoredImage
from atrous.images.traits import ImageTraits


def check_channels_differ(survey: Survey) -> Iterator[Finding]:
    """Find images that lack a band of the others, or store values of another type."""
    found = {}
    for split in survey.splits:
        for item in split.items:
            if (traits := item.traits) is None or item.image_path is None:
                continue
            stored = StoredImage(item.key, traits.num_bands, traits.num_colours, traits.dtype, traits.is_photo)
            if misfit := describe_misfit(stored, split.form):
                found[str(item.image_path)] = misfit
    fix = "Save all images with the same bands and type, or name bands that all of them have in data.channels."
    yield from _report(survey, "channels-differ", "image", "with other bands or another type", found, fix)


def check_place_mismatch(survey: Survey) -> Iterator[Finding]:
    """Find masks that are at another place on the Earth than their image."""
    found = {}
    for item in survey.items:
        if item.traits is None or item.mask is None or item.image is None or item.mask_path is None:
            continue
        size = (item.image.height, item.image.width)
        if size == item.mask.size and (shift := describe_shift(item.traits.place, item.mask.place, size)):
            found[str(item.mask_path)] = f"is {shift}"
    fix = "Warp each mask to the grid of its image, by the nearest pixel (gdalwarp -r near)."
    yield from _report(survey, "place-mismatch", "mask", "at another place than the image", found, fix)


def _report(survey: Survey, code: str, noun: str, what: str, found: Mapping[str, str], fix: str) -> Iterator[Finding]:
    """Report files that are wrong, each with what is wrong with it; nothing if there are none."""
    if found:
        listed = shorten_list([f"{file} {reason}" for file, reason in found.items()])
        message = f"{describe_count(len(found), noun)} {what}: {listed}"
        yield Finding(code, "error", len(found), message, tuple(found), fix, survey.exclude(list(found)))


def check_nodata(survey: Survey) -> Iterator[Finding]:
    """Find images with pixels that hold no data, which are neither trained on nor scored, and those without any."""
    missing = {
        str(item.image_path): item.traits.missing for item in survey.items if item.traits and item.traits.missing
    }
    empty = [file for file, share in missing.items() if share == 1]
    if empty:
        message = f"{describe_count(len(empty), 'image')} without any data: {shorten_list(empty)}"
        fix = "Leave them out; or, if they do hold data, take the nodata value out (gdal_edit.py -unsetnodata)."
        yield Finding("nodata", "warning", len(empty), message, tuple(empty), fix, survey.exclude(empty))
    files = [file for file, share in missing.items() if share < 1]
    if files:
        share = sum(missing[file] for file in files) / len(files)
        message = (
            f"{describe_count(len(files), 'image')} with pixels without data, {share:.2%} of their pixels, which are "
            f"neither trained on nor scored: {shorten_list(files)}"
        )
        fix = "If they do hold data, take the nodata value out of the files (gdal_edit.py -unsetnodata)."
        yield Finding("nodata", "note", len(files), message, tuple(files), fix)


def check_band_values(survey: Survey) -> Iterator[Finding]:
    """Say which values images of more than 8 bits hold, and what their range may be said to be."""
    measured = [item.traits for item in survey.items if item.traits is not None and item.traits.values]
    if not measured or survey.is_range_given:
        return
    bands = _summarise(measured)
    listed = ", ".join(f"{low:g} to {high:g}" for low, high in bands)
    count = describe_count(len(measured), "image")
    message = f"{count} of more than 8 bits: 1 % to 99 % of the values of each band are {listed}"
    low, high = propose_range(survey)
    fix = "Say which values become 0 and 1, and all levels are kept."
    yield Finding("band-values", "note", len(measured), message, (), fix, {"value_range": [low, high]})


def propose_range(survey: Survey) -> tuple[float, float]:
    """Propose the values that become 0 and 1: all that the bits in use can hold, or what nearly all values are within.

    Args:
        survey: What is known of the data, with an image of more than 8 bits.
    """
    measured = [item.traits for item in survey.items if item.traits is not None and item.traits.values]
    bands = _summarise(measured)
    low, high = min(low for low, _ in bands), max(high for _, high in bands)
    peak = max(traits.peak for traits in measured)
    if all(traits.dtype == "uint16" for traits in measured):
        return 0, 2 ** int(peak).bit_length() - 1
    low = 0.0 if 0 <= low < high / 4 else _round_out(low, math.floor)
    high = _round_out(high, math.ceil)
    return low, high if high > low else low + 1


def _round_out(value: float, round_to: Callable[[float], int]) -> float:
    """Return a value at two digits, rounded down by `math.floor` or up by `math.ceil`."""
    if not value:
        return value
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 1)
    rounded = round_to(value / step) * step
    return round(rounded) if step >= 1 else round(rounded, 12)


def _summarise(measured: list[ImageTraits]) -> list[tuple[float, float]]:
    """Return the lowest 1 % and the highest 99 % of each band over all images with the most common number of bands."""
    counts = [len(traits.values) for traits in measured]
    num_bands = max(set(counts), key=counts.count)
    rows = [traits.values for traits in measured if len(traits.values) == num_bands]
    return [(min(low for low, _ in band), max(high for _, high in band)) for band in zip(*rows, strict=True)]
