"""Checks of ids: what masks hold against the classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from atrous.core.findings import Finding, shorten_list
from atrous.core.words import describe_count
from atrous.data.checks.encodings import find_blends, find_instances
from atrous.data.checks.survey import Survey
from atrous.data.classes import suggest_mapping
from atrous.data.facts import DatasetFacts

MOST_IGNORED = 20
"""Unknown ids that a fix ignores: more are no ids."""
STRAY_SHARE = 0.01
"""Pixels of an id / those of the highest id, below which the masks have two values in spite of it."""


def check_unknown_id(survey: Survey) -> Iterator[Finding]:
    """Find masks with ids that are neither a class nor ignored, and no sign of another encoding."""
    if find_instances(survey):
        return
    for split in survey.splits:
        space = split.label_space
        known = {*space.ids, *space.ignored_ids}
        lines, files = [], []
        for item in split.items:
            strange = {
                number: n for number, n in (item.mask.counts if item.mask else {}).items() if number not in known
            }
            if strange and not find_blends(survey, item):
                name = str(item.mask_path or item.key)
                lines.append(f"{name}: {_describe_counts(strange)}")
                files.append(name)
        if lines:
            totals = split.sum_pixels()
            unknown = [number for number in totals if number not in known]
            classes = shorten_list([f"{number} {name}" for number, name in zip(space.ids, space.names, strict=True)])
            yield Finding(
                "unknown-id",
                "error",
                len(lines),
                f"{describe_count(len(lines), 'mask')} with ids outside the classes: {shorten_list(lines)}",
                tuple(files),
                f"Classes are {classes}. Name {shorten_list([str(number) for number in unknown])} in data.classes, "
                f"or put them into data.ignore. {suggest_mapping(totals, space.ignored_ids)}".strip(),
                {"ignore": [*space.ignored_ids, *unknown]} if len(unknown) <= MOST_IGNORED else {},
            )


def check_binary_255(survey: Survey) -> Iterator[Finding]:
    """Find masks of 0 and one high id, such as 255, whose classes are not named."""
    ids = _find_unnamed(survey)
    ignored = survey.splits[0].label_space.ignored_ids if ids else ()
    totals: Counter[int] = Counter()
    for split in survey.splits if ids else ():
        totals.update(split.sum_pixels())
    strays = [number for number in ids[1:-1] if totals[number] < STRAY_SHARE * totals[ids[-1]]]
    ids = [number for number in ids if number not in strays]
    if fix := suggest_mapping(ids, ignored):
        message = f"the masks hold only the ids 0 and {ids[1]}" + (
            f", and {ids[1]} is ignored" if ids[1] in ignored else ""
        )
        if strays:
            message += f"; and few pixels between: {_describe_counts({number: totals[number] for number in strays})}"
        settings = {"label_map": {ids[1]: 1}, "classes": {0: "background", 1: "object"}}
        yield Finding("binary-255", "error", 1, message, fix=fix, settings=settings)


def check_single_class(survey: Survey) -> Iterator[Finding]:
    """Find data with one class, of which there is nothing to tell apart."""
    ids = _find_unnamed(survey)
    if ids:
        ignored = [number for number in ids if number in survey.splits[0].label_space.ignored_ids]
        if len(ids) - len(ignored) < 2 and not suggest_mapping(ids, ignored):
            message = f"the masks hold only the {'ids' if len(ids) > 1 else 'id'} {' and '.join(map(str, ids))}" + (
                f", and {' and '.join(map(str, ignored))} is ignored" if ignored else ""
            )
            yield Finding("single-class", "error", 1, message, fix="Two classes are needed, background included.")
    elif survey.splits and survey.splits[0].label_space.num_classes == 1:
        name = survey.splits[0].label_space.names[0]
        message = f"{name!r} is the only class, so there is nothing to tell it from"
        yield Finding("single-class", "warning", 1, message, fix="Name the background as a class too.")


def check_no_labelled_pixel(survey: Survey) -> Iterator[Finding]:
    """Find that the masks to train on hold no pixel of any class."""
    if survey.train is None or not any(item.mask for item in survey.train.items):
        return
    if not _find_present(survey.train):
        totals = survey.train.sum_pixels()
        yield Finding(
            "no-labelled-pixel",
            "error",
            len(survey.train.items),
            f"{survey.train.name}: the masks hold no pixel of any class, only {_describe_counts(totals) or 'nothing'}",
            fix=suggest_mapping(totals, survey.train.label_space.ignored_ids)
            or "Name the ids of the masks in data.classes, or add images with labels.",
        )


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
    ignored = [number for number in totals if number in space.ignored_ids]
    if mapping and ignored:
        low, high = totals
        message += f": the masks hold only {low} and {high}, and {high} is ignored"
    rows = zip(space.names, space.ids, strict=True)
    classes = {number: name for name, number in rows if number in present}
    fix = mapping or f"Name only classes that occur: {', '.join(classes.values())}; or add images of the rest."
    settings = {} if mapping else {"classes": classes}
    yield Finding("named-class-empty", "error", len(empty), message, fix=fix, settings=settings)


def check_class_in_one_split_only(survey: Survey) -> Iterator[Finding]:
    """Find classes that occur in the training data or in the validation data alone."""
    if survey.train is None or survey.val is None:
        return
    train, val = _find_present(survey.train), _find_present(survey.val)
    missing = _describe_classes(survey.train, train, among=val)
    if missing and not survey.are_classes_named:  # of named classes, check_named_class_empty says it
        message = f"{survey.train.name}: no pixel of {shorten_list(missing)}, which val holds: it cannot be learnt"
        yield Finding("class-in-one-split-only", "warning", len(missing), message, fix="Add images of it to train.")
    missing = _describe_classes(survey.val, val, among=train)
    if missing:
        message = f"{survey.val.name}: no pixel of {shorten_list(missing)}, which train holds: it cannot be scored"
        yield Finding("class-in-one-split-only", "warning", len(missing), message, fix="Add images of it to val.")


def check_ignored_ids(survey: Survey) -> Iterator[Finding]:
    """Find pixels of ignored ids, which are neither trained on nor scored."""
    for split in survey.splits:
        totals = split.sum_pixels()
        ignored = {number: totals[number] for number in split.label_space.ignored_ids if number in totals}
        if ignored:
            message = f"{split.name}: ignored ids: {_describe_counts(ignored)}"
            yield Finding("ignored-ids", "note", len(ignored), message)


def _find_unnamed(survey: Survey) -> list[int]:
    """Return the ids in all masks, sorted, if the classes are not named."""
    if survey.are_classes_named:
        return []
    return sorted({number for split in survey.splits for number in split.sum_pixels()})


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


def _describe_counts(counts: Mapping[int, int]) -> str:
    return shorten_list([f"{number} ({describe_count(count, 'pixel')})" for number, count in sorted(counts.items())])
