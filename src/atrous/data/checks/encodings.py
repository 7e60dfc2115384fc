"""Checks of encodings: masks whose numbers are no ids of classes."""

from __future__ import annotations

from collections.abc import Iterator

from atrous.core.findings import Finding, shorten_list
from atrous.core.words import describe_count
from atrous.data.checks.survey import Survey
from atrous.data.facts import ItemFacts

FEWEST_COUNTED = 4
"""Masks that count objects from 1 before this is taken for their form."""


def check_instance_mask(survey: Survey) -> Iterator[Finding]:
    """Find masks that number objects from 1 in each mask instead of naming their class."""
    items = find_instances(survey)
    if items:
        most = max(max(_list_objects(survey, item)) for item in items)
        names = [str(item.mask_path or item.key) for item in items]
        lines = [f"{name}: 1 to {max(_list_objects(survey, item))}" for name, item in zip(names, items, strict=True)]
        message = (
            f"{describe_count(len(items), 'mask')} number objects from 1 in each mask, up to {most}: "
            f"{shorten_list(lines)}"
        )
        fix = "Write masks in which all objects of a class have one id."
        yield Finding("instance-mask", "error", len(items), message, tuple(names), fix)


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
