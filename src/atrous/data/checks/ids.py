"""Checks of ids: what masks hold against the classes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from atrous.core.findings import Finding, shorten_list
from atrous.core.labels import USUAL_VOID_ID, name_unnamed
from atrous.core.words import describe_count
from atrous.data.checks.binary import describe_counts, find_binary, find_two_codings, sum_pixels
from atrous.data.checks.encodings import find_blends, find_instances
from atrous.data.checks.survey import Survey
from atrous.data.checks.trials import propose_split
from atrous.data.classes import suggest_mapping
from atrous.data.facts import DatasetFacts

MOST_IGNORED = 20
"""Unknown ids that a fix ignores. The masks that hold more are skipped, unless they are most of the masks."""


_TWO_NEEDED = (
    "Two classes are needed, background included. Look at the masks: if what is ignored shows everything else, it is "
    "the background; if it means 'unknown', label some background."
)


def check_unknown_id(survey: Survey) -> Iterator[Finding]:
    """Find masks with ids that are neither a class nor ignored, and no sign of another encoding."""
    if not survey.splits or find_instances(survey) or find_binary(survey) or find_two_codings(survey):
        return
    space = survey.splits[0].label_space
    known = {*space.ids, *space.ignored_ids}
    lines, files, totals = [], [], sum_pixels(survey)
    unknown = [number for number in totals if number not in known]
    for item in survey.items:
        strange = {number: item.mask.counts[number] for number in unknown if item.mask and number in item.mask.counts}
        if strange and not find_blends(survey, item):
            name = item.mask_path or item.key
            lines.append(f"{name}: {describe_counts(strange)}")
            files.append(name)
    if lines:
        classes = shorten_list([f"{number} {name}" for number, name in zip(space.ids, space.names, strict=True)])
        are_few = len(unknown) > MOST_IGNORED and len(files) <= len(survey.items) / 2
        yield Finding(
            "unknown-id",
            "error",
            len(lines),
            f"{describe_count(len(lines), 'mask')} with ids outside the classes: {shorten_list(lines)}",
            tuple(files),
            f"Classes are {classes}. Name {shorten_list([str(number) for number in unknown])} in data.classes, "
            f"or put them into data.ignore. {suggest_mapping(totals, space.ignored_ids)}".strip(),
            (are_few and survey.exclude(files)) or {"ignore": [*space.ignored_ids, *unknown]},
        )


def check_single_class(survey: Survey) -> Iterator[Finding]:
    """Find data with one class, of which there is nothing to tell apart."""
    ids = _find_unnamed(survey)
    if ids:
        ignored = [number for number in ids if number in survey.splits[0].label_space.ignored_ids]
        if len(ids) - len(ignored) == 1 and not suggest_mapping(ids, ignored):
            message = f"the masks hold only the {'ids' if len(ids) > 1 else 'id'} {' and '.join(map(str, ids))}" + (
                f", and {' and '.join(map(str, ignored))} is ignored" if ignored else ""
            )
            settings = _propose_background(survey, [number for number in ids if number not in ignored], ignored)
            yield Finding("single-class", "error", 1, message, fix=_TWO_NEEDED, settings=settings)
    elif survey.splits and survey.splits[0].label_space.num_classes == 1:
        space = survey.splits[0].label_space
        message = f"{space.names[0]!r} is the only class, so there is nothing to tell it from"
        ignored = sorted(sum_pixels(survey).keys() & {*space.ignored_ids})
        settings = _propose_background(survey, list(space.ids), ignored)
        yield Finding("single-class", "warning", 1, message, fix=_TWO_NEEDED, settings=settings)


def _propose_background(survey: Survey, ids: Sequence[int], ignored: Sequence[int]) -> dict[str, Any]:
    """Return the settings that make a background of what is ignored beside one class; none where nothing is."""
    if len(ids) != 1 or len(ignored) != 1:
        return {}
    space = survey.splits[0].label_space
    background = 0 if ids[0] else 1
    name = space.names[0] if survey.are_classes_named else "object"
    classes = dict(sorted({background: "background", ids[0]: name}.items()))
    rest = [number for number in space.ignored_ids if number != ignored[0]]
    mapping = {ignored[0]: background} if ignored[0] != background else {}
    return ({"label_map": mapping} if mapping else {}) | {"classes": classes, "ignore": rest}


def check_no_labelled_pixel(survey: Survey) -> Iterator[Finding]:
    """Find that the masks to train on, or those to score, hold no pixel of any class."""
    empty = [split for split in survey.splits if any(item.mask for item in split.items) and not _find_present(split)]
    if empty:
        totals = sum_pixels(survey)
        held = {number: totals[number] for split in empty for number in split.sum_pixels()}
        yield Finding(
            "no-labelled-pixel",
            "error",
            sum(len(split.items) for split in empty),
            f"{' and '.join(split.name for split in empty)}: the masks hold no pixel of any class, only "
            f"{describe_counts(held) or 'nothing'}",
            fix=suggest_mapping(totals, empty[0].label_space.ignored_ids)
            or "Name the ids of the masks in data.classes, or add images with labels.",
            settings=propose_split(survey, "no-labelled-pixel") or _stop_ignoring(survey, totals),
        )


def _stop_ignoring(survey: Survey, totals: Mapping[int, int]) -> dict[str, Any]:
    """Return the settings that make classes of ids that are all ignored, but for the usual void; none of one id."""
    ignored = survey.splits[0].label_space.ignored_ids
    ids = [number for number in totals if number in ignored and 0 <= number < USUAL_VOID_ID]
    if len(ids) < 2:
        return {}
    rest = [number for number in ignored if number not in ids]
    return {"ignore": rest, "classes": {number: name_unnamed(number) for number in ids}}


def check_named_class_empty(survey: Survey) -> Iterator[Finding]:
    """Find classes that were named and have no pixel to be trained on."""
    train = survey.train
    present = _find_present(train) if train is not None else set()
    if train is None or not survey.are_classes_named or not present:
        return
    empty = _describe_classes(train, present)
    if not empty:
        return
    space, totals = train.label_space, train.sum_pixels()
    message = f"{train.name}: no valid pixel of {shorten_list(empty)} in {describe_count(len(train.items), 'mask')}"
    mapping = suggest_mapping(totals, space.ignored_ids)
    if mapping:
        low, high = totals
        message += f": the masks hold only {low} and {high}"
        message += f", and {high} is ignored" if high in space.ignored_ids else ""
    occurring = ", ".join(name for name, number in zip(space.names, space.ids, strict=True) if number in present)
    if len(present) > 1:
        fix = f"Name only classes that occur: {occurring}; or add images of the rest."
    else:
        fix = f"Add masks of the rest: {occurring} alone is nothing to be told apart."
    settings = (
        find_binary(survey)
        or propose_split(survey, "named-class-empty", {*space.ids} - present)
        or (_leave_out(survey, present) if len(present) > 1 else {})
    )
    yield Finding("named-class-empty", "error", len(empty), message, fix=mapping or fix, settings=settings)


def _leave_out(survey: Survey, kept: Collection[int]) -> dict[str, Any]:
    """Return the settings that name some of the classes alone, and ignore the pixels of the others."""
    space = survey.splits[0].label_space
    held = sum_pixels(survey)
    classes = {number: name for name, number in zip(space.names, space.ids, strict=True) if number in kept}
    unnamed = [number for number in space.ids if number in held and number not in kept]
    return {"classes": classes} | ({"ignore": sorted({*space.ignored_ids, *unnamed})} if unnamed else {})


def check_class_in_one_split_only(survey: Survey) -> Iterator[Finding]:
    """Find classes that occur in the training data or in the validation data alone."""
    if survey.train is None or survey.val is None:
        return
    train, val = _find_present(survey.train), _find_present(survey.val)
    if not train or not val:  # of empty masks, check_no_labelled_pixel says it
        return
    code = "class-in-one-split-only"
    settings = {} if train == val else propose_split(survey, code, train ^ val)
    if not settings and len(train & val) > 1:
        settings = _leave_out(survey, train & val)
    missing = _describe_classes(survey.train, train, among=val)
    if missing and not survey.are_classes_named:  # of named classes, check_named_class_empty says it
        message = f"{survey.train.name}: no pixel of {shorten_list(missing)}, which val holds: it cannot be learnt"
        yield Finding(code, "warning", len(missing), message, fix="Add images of it to train.", settings=settings)
    missing = _describe_classes(survey.val, val, among=train)
    if missing:
        message = f"{survey.val.name}: no pixel of {shorten_list(missing)}, which train holds: it cannot be scored"
        yield Finding(code, "warning", len(missing), message, fix="Add images of it to val.", settings=settings)


def check_ignored_ids(survey: Survey) -> Iterator[Finding]:
    """Find pixels of ignored ids, which are neither trained on nor scored."""
    for split in survey.splits:
        totals = split.sum_pixels()
        ignored = {number: totals[number] for number in split.label_space.ignored_ids if number in totals}
        if ignored:
            message = f"{split.name}: ignored ids: {describe_counts(ignored)}"
            yield Finding("ignored-ids", "note", len(ignored), message)


def _find_unnamed(survey: Survey) -> list[int]:
    """Return the ids in all masks, sorted, if the classes are not named."""
    if survey.are_classes_named:
        return []
    return [*sum_pixels(survey)]


def _find_present(split: DatasetFacts) -> set[int]:
    """Return the ids of the classes that have pixels."""
    return set(split.sum_pixels()) & set(split.label_space.ids)


def _describe_classes(split: DatasetFacts, present: set[int], among: set[int] | None = None) -> list[str]:
    """List the classes that are not present, such as "'car' (id 8)", or those of them among some ids."""
    rows = zip(split.label_space.names, split.label_space.ids, strict=True)
    return [
        f"{name!r} (id {number})"
        for name, number in rows
        if number not in present and (among is None or number in among)
    ]
