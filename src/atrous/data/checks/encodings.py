"""Checks of encodings: masks whose numbers are no ids of classes, or that hold none."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

from atrous.core.findings import Finding, shorten_list
from atrous.core.labels import name_unnamed
from atrous.core.words import describe_count
from atrous.data.checks.files import list_errors
from atrous.data.checks.survey import Survey
from atrous.data.facts import ItemFacts

FEWEST_COUNTED = 4
"""Masks that count objects from 1 before this is taken for their form."""
FEWEST_BLENDS = 3
"""Ids of one mask that are at edges alone, from which they are taken for blends of the ids on both sides."""
MOST_COLOURS = 250
"""Colours of which a fix makes a table: more are blends or photos."""
MOST_MAPPED = 300
"""Objects that a fix maps to their class."""
BLEND_SHARE, BLEND_SOLID = 0.02, 0.1
"""Most that a blend has of the pixels of a mask, and most of its pixels that are inside an area. Of the classes of
photos and street scenes, thin poles included, none is so thin."""


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
    items = [item for split in survey.splits for item in split.items]
    for item in items:
        totals.update(item.colours)
    if not totals or len(totals) > MOST_COLOURS or any(item.mask and not item.mask.colours for item in items):
        return {}
    order = sorted(totals, key=lambda colour: (colour != 0, -totals[colour], colour))
    return _name_colours(survey, dict(zip(order, _list_ids(survey), strict=False)))


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
    """Find masks with ids between those of classes at the edges: resized, smoothed, or once compressed with losses."""
    lines, files = [], []
    for item in (item for split in survey.splits for item in split.items):
        if blends := find_blends(survey, item):
            files.append(item.mask_path or item.key)
            lines.append(f"{files[-1]}: {shorten_list([str(number) for number in blends])}")
    if files:
        message = f"{describe_count(len(files), 'mask')} with ids that occur at edges alone: {shorten_list(lines)}"
        fix = "They are blends of other ids: export the masks again as PNG, without smoothing, and resized by nearest."
        yield Finding("interpolated-mask", "error", len(files), message, tuple(files), fix, survey.exclude(files))


def find_blends(survey: Survey, item: ItemFacts) -> list[int]:
    """Return the ids of a mask that are blends of others: few pixels, at edges alone, between the other ids.

    Args:
        survey: What is known of the data.
        item: An image and its mask.
    """
    if item.mask is None or not item.mask.solid:
        return []
    counts, solid = item.mask.counts, item.mask.solid
    num_pixels = item.mask.size[0] * item.mask.size[1]
    ids = [number for number in counts if number not in survey.splits[0].label_space.ignored_ids]
    thin = {
        number
        for number in ids
        if counts[number] < BLEND_SHARE * num_pixels and solid.get(number, 0) < BLEND_SOLID * counts[number]
    }
    main = [number for number in ids if number not in thin]
    blends = sorted(number for number in thin if main and min(main) < number < max(main))
    return blends if len(blends) >= FEWEST_BLENDS else []


def check_palettes_differ(survey: Survey) -> Iterator[Finding]:
    """Find colours that are different ids in different masks, because each mask has a palette of its own."""
    seen: dict[int, tuple[int, ItemFacts]] = {}
    lines, files = [], []
    for item in (item for split in survey.splits for item in split.items):
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
        (colour, number)
        for split in survey.splits
        for item in split.items
        for number, colour in (item.mask.colours.items() if item.mask else ())
    )
    num_colours = len({colour for colour, _ in votes})
    items = [item for split in survey.splits for item in split.items]
    if num_colours > MOST_COLOURS or any(item.mask and not item.mask.colours for item in items):
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
        source = str(survey.root or "DATA")
        convert = "atrous convert SOURCE --from instances --out converted".replace("SOURCE", shlex.quote(source))
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
    items = [item for split in survey.splits for item in split.items if item.mask]
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
    ignored = survey.splits[0].label_space.ignored_ids
    return sorted(number for number in (item.mask.counts if item.mask else ()) if number and number not in ignored)
