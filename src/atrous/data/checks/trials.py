"""Other divisions of the same images, tried out to solve what was found about their splits."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

from atrous.core.errors import DataError
from atrous.core.split_options import DEFAULT_SHARE, DEFAULT_TRAIN, DEFAULT_VAL, SplitOptions
from atrous.data import CHECKS
from atrous.data.checks.survey import Survey
from atrous.data.division import choose_held_out
from atrous.data.facts import ItemFacts

GROUPS = (r"^(.+?)[_-]", r"^(.+)[_-][^_-]+$", r"^(.+)/", r"^(.*?)\d{1,2}$", r"^(.*?)\d{1,3}$")
"""How names may begin with that of their group: up to the first separator, up to the last, the folder, and the number
of a frame without its last digits."""
FEWEST_GROUPS = 3
"""Groups, from which some can be held out."""
MOST_ITEMS = 50_000
"""Images, up to which divisions are tried out."""
_SOLVED = (
    *("empty-split", "split-overlap", "near-duplicate-across-splits", "same-group-across-splits"),
    *("class-in-one-split-only", "named-class-empty", "no-labelled-pixel"),
)


def propose_split(survey: Survey, code: str, ids: Collection[int] = ()) -> dict[str, Any]:
    """Return the settings that divide the images so that a finding about their splits is solved; none if none do.

    Divisions that have no finding at all come first. Splits that are named by `train` stay: a share of it is held out.

    Args:
        survey: What is known of the data.
        code: The finding to solve.
        ids: Classes that both sides have to hold; nothing is tried where one is in a single image.
    """
    if survey.is_trial or survey.root is None or survey.train is None or survey.val is None:
        return {}
    if len(survey.train.items) + len(survey.val.items) > MOST_ITEMS:
        return {}
    if any(item.window is not None for split in survey.splits for item in split.items):
        return {}  # whose blocks are divided, and no files
    items = [item for split in survey.splits for item in split.items if item.mask]
    if any(sum(number in item.mask.counts for item in items if item.mask) < 2 for number in ids):
        return {}
    second: SplitOptions | None = None
    for options in _list_candidates(survey, with_groups=not ids):
        trial = _divide(survey, options)
        if trial is None or list(CHECKS.load(code)(trial)):
            continue
        if not any(list(CHECKS.load(each)(trial)) for each in _SOLVED):
            return _describe(options)
        second = second or options
    return {} if second is None else _describe(second)


def _list_candidates(survey: Survey, *, with_groups: bool) -> Iterator[SplitOptions]:
    given = survey.split
    share = given.share or DEFAULT_SHARE
    for group in (None, *GROUPS) if given.group is None and with_groups else (given.group,):
        for val, seed in ((share, 0), (share, 1), (0.3, 0), (0.4, 0), (0.5, 0)):
            yield SplitOptions(given.train, val, seed, group)


def _divide(survey: Survey, options: SplitOptions) -> Survey | None:
    """Return the survey of the same images in another division; None if there is no such division."""
    if survey.train is None or survey.val is None:
        return None
    parts = (survey.train,) if options.train is not None else survey.splits
    items = sorted({item.key: item for part in parts for item in part.items}.values(), key=lambda item: item.key)
    ids = {*survey.train.label_space.ids}
    contents = [ids & {*(item.mask.counts if item.mask else ())} for item in items]
    names = {survey.split.train_name, survey.split.val_name, DEFAULT_TRAIN, DEFAULT_VAL}
    keys, digests = [item.key for item in items], [item.digest for item in items]
    try:
        held, num_groups = choose_held_out(keys, contents, digests, options, names)
    except DataError:
        return None
    if options.group is not None and num_groups < FEWEST_GROUPS:
        return None
    chosen = {*held}
    sides: tuple[list[ItemFacts], list[ItemFacts]] = ([], [])
    for index, item in enumerate(items):
        sides[index in chosen].append(item)
    train, val = (replace(part, items=tuple(side)) for part, side in zip(survey.splits, sides, strict=True))
    return replace(survey, inventories=(), train=train, val=val, split=options, is_trial=True)


def _describe(options: SplitOptions) -> dict[str, Any]:
    settings = {"train": options.train, "val": options.val, "seed": options.seed or None, "group": options.group}
    return {"split": {name: value for name, value in settings.items() if value is not None}}
