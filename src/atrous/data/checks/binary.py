"""Masks of 0 and one high value, such as 255: the check of them, and what it knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from atrous.core.findings import Finding, shorten_list
from atrous.core.words import describe_count
from atrous.data.checks.survey import Survey
from atrous.data.classes import LOWEST_HIGH, suggest_mapping
from atrous.data.facts import ItemFacts
from atrous.data.facts_cache import MaskFacts

BLEND_SHARE, BLEND_SOLID = 0.02, 0.1
"""Most that a blend has of the pixels of a mask, and most of its pixels that are inside an area. Of the classes of
photos and street scenes, thin poles included, none is so thin."""
FEWEST_BLENDS = 3
"""Values of one mask that are at edges alone, from which they are taken for blends of the values on both sides."""
FEWEST_CODED, CODED_SHARE = 2, 0.1
"""Masks that hold a value which others write otherwise, from which it is no exception."""
STRAY_SHARE = 0.01
"""Pixels of an id / those of the highest id, below which the masks have two values in spite of it."""


def check_binary_255(survey: Survey) -> Iterator[Finding]:
    """Find masks of 0 and one high id, such as 255, whose classes are not named, also beside masks of 0 and 1."""
    yield from _describe_two_codings(survey)
    ids, strays, totals = _drop_strays(survey)
    if not ids or (survey.are_classes_named and not (strays and find_binary(survey))):
        return
    ignored = survey.splits[0].label_space.ignored_ids
    if fix := suggest_mapping(ids, ignored):
        message = f"the masks hold only the ids 0 and {ids[1]}" + (
            f", and {ids[1]} is ignored" if ids[1] in ignored else ""
        )
        if strays:
            message += f"; and few pixels between: {describe_counts({number: totals[number] for number in strays})}"
            fix += (
                " Values between them, where edges were smoothed, become the nearer one."
                if len(strays) >= FEWEST_BLENDS
                else ""
            )
        yield Finding("binary-255", "error", 1, message, fix=fix, settings=find_binary(survey))


def _describe_two_codings(survey: Survey) -> Iterator[Finding]:
    if found := find_two_codings(survey):
        low, high = found
        files = tuple(str(item.mask_path or item.key) for item in _list_holding(survey, high))
        message = (
            f"{describe_count(len(files), 'mask')} with 0 and {high}, {len(_list_holding(survey, low)):,} with 0 and "
            f"{low}, and none with {low} and {high}: {shorten_list(files)}"
        )
        fix = f"Look at them. If {high} is the same object as {low}, map it; if it means 'unknown', ignore it by name: "
        ignored = sorted({*survey.splits[0].label_space.ignored_ids, high})
        settings: dict[str, Any] = {"label_map": {high: low}, "ignore": [each for each in ignored if each != high]}
        if not survey.are_classes_named:
            settings["classes"] = {0: "background", low: "object"}
        yield Finding("binary-255", "error", len(files), message, files, f"{fix}ignore: {ignored}.", settings)


def find_two_codings(survey: Survey) -> tuple[int, int] | None:
    """Return the two ids if some masks hold 0 and a low one, others 0 and a high one, and none both; None otherwise.

    Of a high id that the user named or ignored, it is known what it means.
    """
    ids = [*sum_pixels(survey)]
    if len(ids) != 3 or ids[0] or not ids[1] < LOWEST_HIGH <= ids[2]:
        return None
    space, (_, low, high) = survey.splits[0].label_space, ids
    if (high in space.ids and survey.are_classes_named) or (high in space.ignored_ids and survey.is_ignore_given):
        return None
    fewest = max(FEWEST_CODED, CODED_SHARE * len(survey.items))
    held = Counter(frozenset(item.mask.counts) for item in survey.items if item.mask)
    is_either = not any({low, high} <= ids for ids in held)
    return (low, high) if is_either and min(held[frozenset({0, low})], held[frozenset({0, high})]) >= fewest else None


def find_thin(mask: MaskFacts) -> set[int]:
    """Return the ids that have few pixels of a mask, nearly all of them at edges."""
    counts, solid = mask.counts, mask.solid
    most = BLEND_SHARE * mask.size[0] * mask.size[1] if solid else 0
    return {
        number for number in counts if counts[number] < most and solid.get(number, 0) < BLEND_SOLID * counts[number]
    }


def _list_holding(survey: Survey, number: int) -> list[ItemFacts]:
    return [item for item in survey.items if item.mask and number in item.mask.counts]


def sum_pixels(survey: Survey) -> Counter[int]:
    """Return the pixels of each id in all masks, by id in ascending order."""
    totals: Counter[int] = Counter()
    for split in survey.splits:
        totals.update(split.sum_pixels())
    return Counter(dict(sorted(totals.items())))


def _drop_strays(survey: Survey) -> tuple[list[int], list[int], Counter[int]]:
    """Return the ids in all masks, those of few pixels between two that have all others, and the pixels of each."""
    totals = sum_pixels(survey)
    ids = [*totals]
    thick = {number for item in survey.items if item.mask for number in item.mask.counts.keys() - find_thin(item.mask)}
    strays = [number for number in ids[1:-1] if totals[number] < STRAY_SHARE * totals[ids[-1]] or number not in thick]
    if all(3 * number < ids[-1] for number in strays):  # thin classes: of blends, not all are near 0
        strays = []
    return [number for number in ids if number not in strays], strays, totals


def find_binary(survey: Survey) -> dict[str, Any]:
    """Return the settings that make a class of the high id in masks of 0 and one high id; none for other masks.

    Of named classes the high id becomes the one that has no pixel.
    """
    ids, strays, _ = _drop_strays(survey)
    space = survey.splits[0].label_space if survey.splits else None
    if space is None or not suggest_mapping(ids, space.ignored_ids):
        return {}
    blends = strays if len(strays) >= FEWEST_BLENDS else []
    if not survey.are_classes_named:
        mapping = {ids[1]: 1} | {number: int(2 * number > ids[1]) for number in blends}
        return {"label_map": mapping, "classes": {0: "background", 1: "object"}}
    empty = [number for number in space.ids if number not in ids]
    if len(strays) > len(blends) or len(empty) != 1 or ids[1] in space.ids:
        return {}
    mapping = {ids[1]: empty[0]} | {number: empty[0] if 2 * number > ids[1] else 0 for number in blends}
    rest = [number for number in space.ignored_ids if number not in mapping]
    return {"label_map": mapping} | ({"ignore": rest} if {*rest} != {*space.ignored_ids} else {})


def describe_counts(counts: Mapping[int, int]) -> str:
    """List the first few ids with their pixels, such as "7 (2 pixels)"."""
    return shorten_list([f"{number} ({describe_count(count, 'pixel')})" for number, count in sorted(counts.items())])
