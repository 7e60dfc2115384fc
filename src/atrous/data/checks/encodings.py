"""Checks of encodings: masks whose numbers are no ids of classes, or that hold none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import combinations, count
from typing import Any

import numpy as np

from atrous.core.findings import Finding, shorten_list
from atrous.core.labels import name_unnamed
from atrous.core.words import describe_count, spell_command, spell_path
from atrous.data.checks.binary import FEWEST_BLENDS, find_binary, find_thin
from atrous.data.checks.files import list_errors
from atrous.data.checks.survey import Survey
from atrous.data.facts import ItemFacts

FEWEST_COUNTED = 4
"""Masks that count objects from 1 before this is taken for their form."""
FEWEST_LEVELS, LEVELS_SOLID = 20, 0.3
"""Ids of one mask, and the share of its pixels in areas of one id, from which and below which it is no mask at all."""
MOST_COLOURS = 250
"""Colours of which a fix makes a table: more are blends or photos."""
BLENDED_SHARE, BLENDED_ERROR, MOST_BLENDED = 0.05, 2.0, 24
"""Most that a blended colour has of all pixels, how far its channels are from a blend, and colours that blend."""
FEWEST_GREYS = 16
"""Levels of grey that are blends rather than classes."""
OVERSHOOT = 0.1
"""Part of the step between two colours by which a sharp interpolation goes beyond them."""
PALETTE_STEP = 32
"""Channels of palettes such as VOC's are multiples of it."""
MOST_MAPPED = 300
"""Objects that a fix maps to their class."""


def check_lossy_mask(survey: Survey) -> Iterator[Finding]:
    """Find masks that are compressed with losses, such as JPEGs, whatever their suffix."""
    yield from list_errors(survey, "lossy-mask", "{} compressed with losses")


def check_colour_mask(survey: Survey) -> Iterator[Finding]:
    """Find masks that hold colours, where no table says which colour is which id."""
    settings = _propose_colours(survey)
    yield from list_errors(survey, "colour-mask", "{} in colour", settings)


def _propose_colours(survey: Survey) -> dict[str, Any]:
    """Return a table of the colours that masks hold, black first and the others by their pixels; none of many."""
    totals: Counter[int] = Counter()
    for item in survey.items:
        totals.update(item.colours)
    if not totals or len(totals) > MOST_COLOURS or any(item.mask and not item.mask.colours for item in survey.items):
        return {}
    nearest = _find_blended(totals)
    order = sorted(totals.keys() - nearest.keys(), key=lambda colour: (colour != 0, -totals[colour], colour))
    ids = dict(zip(order, _list_ids(survey), strict=False))
    return _name_colours(survey, ids | {colour: ids[near] for colour, near in sorted(nearest.items())})


def _find_blended(totals: Mapping[int, int]) -> dict[int, int]:
    """Return the colours that are blends of two others, as at smoothed edges, each with the nearer one of the two.

    Colours of palettes are blends of others by chance, mostly in steps of `PALETTE_STEP`.
    """
    found: dict[int, int] = {}
    main: list[tuple[int, np.ndarray]] = []
    for colour in sorted(totals, key=lambda colour: (-totals[colour], colour)):
        values = np.array([*colour.to_bytes(3, "big")], float)
        is_rare = totals[colour] < BLENDED_SHARE * sum(totals.values()) and bool((values % PALETTE_STEP).any())
        for (one, first), (other, second) in combinations(main[:MOST_BLENDED], 2) if is_rare else ():
            share = float((values - first) @ (second - first) / ((second - first) @ (second - first)))
            if (
                -OVERSHOOT < share < 1 + OVERSHOOT
                and np.abs(first + share * (second - first) - values).max() <= BLENDED_ERROR
            ):
                found[colour] = one if share < 0.5 else other
                break
        else:
            main.append((colour, values))
    greys = [colour for colour in found if colour % 0x10101 == 0]
    if len(greys) < FEWEST_GREYS:  # classes may be some levels of grey
        found = {colour: near for colour, near in found.items() if colour not in greys}
    return found if len(found) >= FEWEST_BLENDS else {}


def _list_ids(survey: Survey) -> Iterator[int]:
    """Yield the ids of the classes if they are named, then other ids that are not ignored."""
    space = survey.splits[0].label_space
    named = space.ids if survey.are_classes_named else ()
    yield from named
    yield from (number for number in count() if number not in named and number not in space.ignored_ids)


def _name_colours(survey: Survey, ids: Mapping[int, int]) -> dict[str, Any]:
    """Return the settings of a table of colours; ids beyond the named classes get names too."""
    settings: dict[str, Any] = {"colours": {tuple(colour.to_bytes(3, "big")): ids[colour] for colour in ids}}
    space = survey.splits[0].label_space
    new = sorted({*ids.values()} - {*space.ids} - {*space.ignored_ids})
    if survey.are_classes_named and new:
        named = dict(zip(space.ids, space.names, strict=True))
        settings["classes"] = named | {number: name_unnamed(number) for number in new}
    return settings


def check_alpha_mask(survey: Survey) -> Iterator[Finding]:
    """Find masks whose alpha channel alone holds something."""
    yield from list_errors(survey, "alpha-mask", "{} in the alpha channel")


def check_multi_page_mask(survey: Survey) -> Iterator[Finding]:
    """Find masks with several pages or frames."""
    yield from list_errors(survey, "multi-page-mask", "{} with several pages or frames")


def check_interpolated_mask(survey: Survey) -> Iterator[Finding]:
    """Find masks with ids between those of classes at the edges, and masks of many ids that form no areas.

    The former were resized, smoothed, or once compressed with losses; the latter are photos. Masks of 0 and one high id
    are left to `check_binary_255`, which says what the ids between are.
    """
    yield from _report_photos(survey)
    lines, files = [], []
    for item in survey.items if not find_binary(survey) else ():
        if not _is_photo(item) and (blends := find_blends(survey, item)):
            files.append(item.mask_path or item.key)
            lines.append(f"{files[-1]}: {shorten_list([str(number) for number in blends])}")
    if files:
        message = f"{describe_count(len(files), 'mask')} with ids that occur at edges alone: {shorten_list(lines)}"
        fix = "They are blends of other ids: export the masks again as PNG, without smoothing, and resized by nearest."
        yield Finding("interpolated-mask", "error", len(files), message, tuple(files), fix, survey.exclude(files))


def _report_photos(survey: Survey) -> Iterator[Finding]:
    found = {
        str(item.mask_path or item.key): item.mask.counts for item in survey.items if item.mask and _is_photo(item)
    }
    if found:
        lines = [f"{file} ({len(counts):,} values)" for file, counts in found.items()]
        message = f"{describe_count(len(found), 'mask')} like photos, with many values and hardly an area of one: "
        fix = "They hold no labels: replace them, or leave them out."
        message += shorten_list(lines)
        yield Finding("interpolated-mask", "error", len(found), message, tuple(found), fix, survey.exclude([*found]))


def _is_photo(item: ItemFacts) -> bool:
    if item.mask is None or item.mask_path is None or len(item.mask.counts) < FEWEST_LEVELS:
        return False
    return sum(item.mask.solid.values()) < LEVELS_SOLID * sum(item.mask.counts.values())


def find_blends(survey: Survey, item: ItemFacts) -> list[int]:
    """Return the ids of a mask that are blends of others: few pixels, at edges alone, between the other ids.

    Args:
        survey: What is known of the data.
        item: An image and its mask.
    """
    if item.mask is None:
        return []
    ignored = {*survey.splits[0].label_space.ignored_ids}  # void is at the edge of thin classes without blends
    thin = find_thin(item.mask) - ignored
    main = [number for number in item.mask.counts if number not in thin and number not in ignored]
    blends = sorted(number for number in thin if main and min(main) < number < max(main))
    return blends if len(blends) >= FEWEST_BLENDS else []


def check_palettes_differ(survey: Survey) -> Iterator[Finding]:
    """Find colours that are different ids in different masks, because each mask has a palette of its own."""
    seen: dict[int, tuple[int, ItemFacts]] = {}
    lines, files = [], []
    for item in survey.items:
        for number, colour in item.mask.colours.items() if item.mask else ():
            other_number, other = seen.setdefault(colour, (number, item))
            if other_number != number and other.mask and item.mask and other.mask.palette != item.mask.palette:
                files.append(str(item.mask_path))
                red, green, blue = colour.to_bytes(3, "big")
                lines.append(
                    f"({red}, {green}, {blue}) is {other_number} in {other.mask_path}, {number} in {files[-1]}"
                )
                break
    if files:
        message = f"{describe_count(len(files), 'mask')} with a palette in which colours have other ids: "
        fix = (
            "Look at which colour is which class, and read the masks by their colours instead of their ids; or write "
            "all masks with one palette."
        )
        message += shorten_list(lines)
        settings = _propose_palette(survey)
        yield Finding("palettes-differ", "error", len(files), message, tuple(files), fix, settings)


def _propose_palette(survey: Survey) -> dict[str, Any]:
    """Return a table of the colours in palettes, each with the id that it has in most masks; none of many."""
    votes = Counter(
        (colour, number) for item in survey.items for number, colour in (item.mask.colours.items() if item.mask else ())
    )
    num_colours = len({colour for colour, _ in votes})
    if num_colours > MOST_COLOURS or any(item.mask and not item.mask.colours for item in survey.items):
        return {}
    ids: dict[int, int] = {}
    for (colour, number), _ in sorted(votes.items(), key=lambda row: (-row[1], row[0])):
        if colour not in ids and number not in ids.values():
            ids[colour] = number
    free = (number for number in _list_ids(survey) if number not in {*ids.values()})
    for colour in sorted({colour for colour, _ in votes} - ids.keys()):
        ids[colour] = next(free)
    return _name_colours(survey, dict(sorted(ids.items(), key=lambda row: row[1])))


def check_instance_mask(survey: Survey) -> Iterator[Finding]:
    """Find masks that number objects from 1 in each mask instead of naming their class."""
    items = find_instances(survey)
    if items:
        most = max(max(_list_objects(survey, item)) for item in items)
        names = [item.mask_path or item.key for item in items]
        lines = [f"{name}: 1 to {max(_list_objects(survey, item))}" for name, item in zip(names, items, strict=True)]
        message = (
            f"{describe_count(len(items), 'mask')} number objects from 1 in each mask, up to {most}: "
            f"{shorten_list(lines)}"
        )
        source = spell_command([spell_path(str(survey.root or "DATA"))])
        convert = "atrous convert SOURCE --from instances --out converted".replace("SOURCE", source)
        fix = (
            "Write masks in which all objects of a class have one id. If all are of one class, map them to it, or "
            f"convert the masks: {convert}"
        )
        settings: dict[str, Any] = {"label_map": dict.fromkeys(range(2, most + 1), 1)} if most <= MOST_MAPPED else {}
        if settings and not survey.are_classes_named:
            settings["classes"] = {0: "background", 1: "object"}
        command = "" if settings else convert
        yield Finding("instance-mask", "error", len(items), message, tuple(names), fix, settings, command)


def find_instances(survey: Survey) -> list[ItemFacts]:
    """Return the masks with several objects if all masks number their objects; otherwise none.

    That is so if the ids of every mask, without 0 and the ignored ones, are 1, 2, 3 and so on without a gap, if the
    masks end at many different numbers, and if some of these numbers are no named class.
    """
    items = [item for item in survey.items if item.mask]
    ends = []
    for item in items:
        objects = _list_objects(survey, item)
        if objects != list(range(1, len(objects) + 1)):
            return []
        ends.append(len(objects))
    several = [item for item, end in zip(items, ends, strict=True) if end > 1]
    if len(several) < max(FEWEST_COUNTED, len(items) // 2) or len(set(ends)) < FEWEST_COUNTED:
        return []
    if survey.are_classes_named and max(ends) <= max(survey.splits[0].label_space.ids):
        return []
    return several


def _list_objects(survey: Survey, item: ItemFacts) -> list[int]:
    ids = sorted(number for number in (item.mask.counts if item.mask else ()) if number)
    if ids == list(range(1, len(ids) + 1)):
        return ids  # with 255 of more objects, which is no void then
    return [number for number in ids if number not in survey.splits[0].label_space.ignored_ids]
