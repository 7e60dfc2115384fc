"""Checks of the two splits of a run against each other: equal images, similar images, images of one group."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from atrous.core.findings import Finding, shorten_list
from atrous.core.split_options import DEFAULT_TRAIN, DEFAULT_VAL
from atrous.core.words import describe_count
from atrous.data.checks.survey import Survey
from atrous.data.checks.trials import propose_split
from atrous.data.facts import ItemFacts
from atrous.data.split import find_group
from atrous.images.traits import FINGERPRINT_BITS

NEAR_BITS = 8
"""Bits of a fingerprint, of 144, in which near duplicates may differ; photos of different things differ in over 20."""
NEAR_COLOUR = 24
"""Difference of the mean colours, of 255, up to which images are near duplicates."""
FEW_SHARE = 0.05
"""Share of the validation images, up to which near duplicates are excluded rather than all images divided again."""
SMALLEST_GROUP = 3
"""Images in the average group: otherwise names have no groups."""
GROUP_EXPLAINS = 0.3
"""Share of the variance of colours between images that groups must explain. Groups without a meaning, such as years,
explain nearly nothing; scenes and film clips explain half and more."""
_GROUPS = (r"^(.+?)[_-]", r"^(.+)[_-][^_-]+$")
"""How names may begin with that of their group: up to the first separator, or up to the last."""


def check_split_overlap(survey: Survey) -> Iterator[Finding]:
    """Find images of the validation data that are training images too, under whatever name."""
    if survey.train is None or survey.val is None:
        return
    trained = {item.digest: item for item in reversed(survey.train.items) if item.digest is not None}
    both = [(item, trained[item.digest]) for item in survey.val.items if item.digest in trained]
    if both:
        names = [(val.image_path or val.key, train.image_path or train.key) for val, train in both]
        lines = [val if val == train else f"{val} is {train}" for val, train in names]
        copies = survey.exclude(sorted({train for _, train in names}), few=True)
        yield Finding(
            "split-overlap",
            "error",
            len(both),
            f"{len(both):,} of the {describe_count(len(survey.val.items), 'image')} of {survey.val.name} "
            f"in {survey.train.name} too: {shorten_list(lines)}",
            tuple(val for val, _ in names),
            "The score would be that of training images: leave them out of one of the two.",
            copies or propose_split(survey, "split-overlap"),
        )


def check_near_duplicate_across_splits(survey: Survey) -> Iterator[Finding]:
    """Find validation images that look like a training image: the next frame of a film, or a copy saved again."""
    train, val = _list_comparable(survey)
    distinct = {item.digest: item for item in val}
    nearest = dict(zip(distinct, _find_nearest(list(distinct.values()), train), strict=True))
    names = [
        (str(item.image_path), str(train[near].image_path))
        for item in val
        if (near := nearest[item.digest]) is not None
    ]
    if survey.train and survey.val and names:
        message = (
            f"{len(names):,} of the {describe_count(len(survey.val.items), 'image')} of {survey.val.name} look like "
            f"images of {survey.train.name}: {shorten_list([f'{image} like {near}' for image, near in names])}"
        )
        fix = (
            "Look at them: if they show the same, the score is too high. Keep images that belong together on one side "
            "of the split, or leave out those that are scored."
        )
        files = tuple(image for image, _ in names)
        code = "near-duplicate-across-splits"
        few = len(names) <= max(1, FEW_SHARE * len(survey.val.items))
        settings = (few and survey.exclude(files)) or propose_split(survey, code) or survey.exclude(files)
        yield Finding(code, "warning", len(names), message, files, fix, settings)


def check_same_group_across_splits(survey: Survey) -> Iterator[Finding]:
    """Find groups of images, by the beginning of their names, that are on both sides and differ from other groups."""
    if survey.train is None or survey.val is None:
        return
    sides = [[item for item in split.items if item.traits and item.image_path] for split in (survey.train, survey.val)]
    splits = {survey.split.train_name, survey.split.val_name, DEFAULT_TRAIN, DEFAULT_VAL}
    given = None if survey.is_trial else survey.split.group  # of which a trial has no group in both splits anyway
    for expression in map(re.compile, _GROUPS if given is None else (given,)):
        groups = [[find_group(expression, item.key, splits) or item.key for item in items] for items in sides]
        shared = set(groups[0]) & set(groups[1])
        names, items = groups[0] + groups[1], sides[0] + sides[1]
        num_groups = len(set(names))
        if not shared:
            continue
        is_guess = given is None
        if is_guess and (num_groups < 2 or len(items) < SMALLEST_GROUP * num_groups):
            continue
        if is_guess and _explain_colours(names, items) < GROUP_EXPLAINS:
            continue
        train, val = (Counter(side) for side in groups)
        lines = [f"{name} ({train[name]} in train, {val[name]} in val)" for name in sorted(shared)]
        files = [str(item.image_path) for item, name in zip(sides[1], groups[1], strict=True) if name in shared]
        message = (
            f"{describe_count(len(shared), 'group')} of similar images with names that begin alike "
            f"{'is' if len(shared) == 1 else 'are'} in both {survey.train.name} and {survey.val.name}: "
            f"{shorten_list(lines)}"
        )
        fix = (
            "If the images of a group show one scene, the score is too high: keep them on one side of the split. "
            "The official splits of a benchmark stay as they are, for scores that others can compare."
        )
        code = "same-group-across-splits"
        yield Finding(code, "warning", len(files), message, tuple(files), fix, propose_split(survey, code))
        return


def _list_comparable(survey: Survey) -> tuple[list[ItemFacts], list[ItemFacts]]:
    """Return the images of both splits that have a fingerprint, without copies of training images, in either."""
    train, val = (
        [item for item in split.items if item.traits and item.traits.fingerprint] if split else []
        for split in (survey.train, survey.val)
    )
    distinct = {item.digest: item for item in reversed(train)}
    return list(reversed(distinct.values())), [item for item in val if item.digest not in distinct]


def _find_nearest(items: Sequence[ItemFacts], others: Sequence[ItemFacts]) -> list[int | None]:
    """Return for each image the index of one that looks like it.

    Fingerprints that differ in at most `NEAR_BITS` bits agree in one of `NEAR_BITS` + 1 parts: only such are compared.
    """
    num_parts = NEAR_BITS + 1
    width = FINGERPRINT_BITS // num_parts
    parts: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, other in enumerate(others):
        for part in range(num_parts):
            parts[part, _read_fingerprint(other) >> part * width & (1 << width) - 1].append(index)
    nearest: list[int | None] = []
    for item in items:
        mine = _read_fingerprint(item)
        candidates = {
            index
            for part in range(num_parts)
            for index in parts.get((part, mine >> part * width & (1 << width) - 1), ())
        }
        near = [
            (distance, index)
            for index in candidates
            if (distance := (mine ^ _read_fingerprint(others[index])).bit_count()) <= NEAR_BITS
            and _compare_colours(item, others[index]) <= NEAR_COLOUR
        ]
        nearest.append(min(near)[1] if near else None)
    return nearest


def _read_fingerprint(item: ItemFacts) -> int:
    return item.traits.fingerprint if item.traits else 0


def _compare_colours(item: ItemFacts, other: ItemFacts) -> int:
    """Return the largest difference of the mean colours, of 255."""
    if item.traits is None or other.traits is None:
        return 255
    return max(abs(mine - its) for mine, its in zip(item.traits.colour, other.traits.colour, strict=True))


def _explain_colours(names: Sequence[str], items: Sequence[ItemFacts]) -> float:
    """Return the share of the variance of mean colours that is between groups: 1 if each group has one colour.

    Args:
        names: The group of each image, (N,).
        items: The images, (N,).
    """
    colours = np.array([item.traits.colour for item in items if item.traits], dtype=float)  # (N, 3)
    _, group, sizes = np.unique(names, return_inverse=True, return_counts=True)
    means = np.stack([np.bincount(group, channel) for channel in colours.T], axis=1) / sizes[:, None]
    total = ((colours - colours.mean(axis=0)) ** 2).sum()
    within = ((colours - means[group]) ** 2).sum()
    degrees = (len(colours) - 1) / (len(colours) - len(sizes))  # of freedom: small groups explain much by chance
    return float(1.0 - degrees * within / total) if total else 0.0
