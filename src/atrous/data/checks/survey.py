"""What checks look at, and running all of them."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from atrous.core.findings import Finding
from atrous.core.labels import LabelSpace
from atrous.core.split_options import DEFAULT_SPLIT, SplitOptions
from atrous.core.words import describe_count
from atrous.data import CHECKS
from atrous.data.facts import DatasetFacts, ItemFacts, join_blocks, join_items
from atrous.data.inventory import Inventory

FEW_EXCLUDED = 20
"""Files that a fix leaves out where another fix keeps them."""
_NO_TEXT = re.compile("[\udc80-\udcff]")
"""Bytes in a name that are no text in UTF-8, as Python reads them: no file of settings can hold them."""
FEWEST_LEFT = 2
"""Pairs that a fix leaves: one to train on and one to score."""


@dataclass(frozen=True)
class Survey:
    """All that is known of some data. A check looks at its own part and finds nothing where that part is missing.

    Args:
        inventories: What is in the folders, one for each split.
        train: Facts of the data to train on; None if they have not been read.
        val: Facts of the data to score on; None likewise.
        are_classes_named: Whether the classes were named by the user or by a registered data set, not found in masks.
        root: The folder of the data; None if they have none.
        source: How a command names the data.
        excluded: Patterns of files that the user leaves out already.
        split: How the images were divided.
        is_ignore_given: Whether the user, or a registered data set, said which ids are ignored.
        is_range_given: Whether the user said which values of the images are black and white.
        are_channels_given: Whether the user said which channels the images have.
        is_weighted: Whether a training weighs rare classes higher.
        is_trial: Whether this is a division that was tried out, of which no other one is proposed.
    """

    inventories: tuple[Inventory, ...] = ()
    train: DatasetFacts | None = None
    val: DatasetFacts | None = None
    are_classes_named: bool = False
    root: Path | None = None
    source: str = "DATA"
    excluded: tuple[str, ...] = ()
    split: SplitOptions = DEFAULT_SPLIT
    is_ignore_given: bool = False
    is_range_given: bool = False
    are_channels_given: bool = False
    is_weighted: bool = False
    is_trial: bool = False

    @property
    def splits(self) -> tuple[DatasetFacts, ...]:
        """The splits whose facts are known."""
        return tuple(split for split in (self.train, self.val) if split is not None)

    @cached_property
    def items(self) -> tuple[ItemFacts, ...]:
        """Each image with its mask, once: of a raster with blocks in both splits, all of them."""
        train, val = (() if split is None else split.items for split in (self.train, self.val))
        scored = {item.image_path for item in val} - {None}
        both = {item.image_path for item in train if item.image_path in scored}
        rest = [item for item in val if item.image_path not in both or item.window is not None]
        return join_items([*train, *rest])

    @property
    def num_pairs(self) -> int:
        """Number of pairs, also where no file has been read."""
        return len(self.items) if self.splits else sum(each.num_pairs for each in self.inventories)

    def exclude(self, files: Sequence[str | Path], *, few: bool = False) -> dict[str, list[str]]:
        """Return the settings that leave out pairs by a file of each; none if fewer than two pairs would be left.

        Args:
            files: Images or masks in the folder of the data.
            few: Whether there is another solution, so that only a few files are skipped.
        """
        most = self.num_pairs - FEWEST_LEFT
        return self.leave_out(files) if len(files) <= (min(FEW_EXCLUDED, self.num_pairs / 2) if few else most) else {}

    def leave_out(self, files: Sequence[str | Path]) -> dict[str, list[str]]:
        """Return the settings that leave out some files, however many; none for data without a folder."""
        if self.root is None:
            return {}
        return {"exclude": [*self.excluded, *(pattern for file in files if (pattern := self._spell(file)))]}

    def drop(self, findings: Iterable[Finding]) -> Survey:
        """Return what is known of the data without the pairs that fixes of findings leave out.

        An id that only these pairs hold is no class then, unless the classes are named.
        """
        patterns = {pattern for finding in findings for pattern in finding.settings.get("exclude", ())} - {
            *self.excluded
        }
        if not patterns:
            return self
        parts = [self._drop(split, patterns) for split in (self.train, self.val)]
        if not self.are_classes_named:
            held = {number for part in parts if part for number in part.sum_pixels()}
            parts = [part and replace(part, label_space=_keep_classes(part.label_space, held)) for part in parts]
        return replace(self, train=parts[0], val=parts[1])

    def _drop(self, split: DatasetFacts | None, patterns: Collection[str]) -> DatasetFacts | None:
        items = split.items if split is not None else ()
        kept = tuple(
            item for item in items if not {self._spell(item.image_path), self._spell(item.mask_path)} & {*patterns}
        )
        return replace(split, items=kept) if split is not None and (kept or not items) else None

    def _spell(self, file: str | Path | None) -> str:
        """Return the pattern that leaves out a file; empty for one that is not in the folder of the data."""
        if file is None or self.root is None:
            return ""
        text, folder = str(file), f"{self.root}/"
        path = (
            text.removeprefix(folder) if text.startswith(folder) else Path(os.path.relpath(text, self.root)).as_posix()
        )
        return "" if path.startswith("../") else _NO_TEXT.sub("?", glob.escape(path))


def _keep_classes(space: LabelSpace, held: Collection[int]) -> LabelSpace:
    kept = [index for index, number in enumerate(space.ids) if number in held]
    if not kept:
        return space
    return LabelSpace(
        tuple(space.names[index] for index in kept),
        tuple(space.ids[index] for index in kept),
        tuple(space.colours[index] for index in kept),
        space.ignored_ids,
    )


Check = Callable[[Survey], Iterator[Finding]]
"""One check: yields findings of its own code, or nothing."""
_SEVERITIES = ("error", "warning", "note")
_READING = {"label_map", "colours"}
"""Settings that say which id a value is: until they are written, nothing is known of the classes."""
_OF_CLASSES = (
    *("single-class", "no-labelled-pixel", "named-class-empty", "class-in-one-split-only", "rare-class", "mostly-void"),
)
"""Checks of classes."""


def run_checks(survey: Survey) -> list[Finding]:
    """Run every check on some data, and return errors first, otherwise in the order of the table.

    What a fix leaves out is seen by no later check, and checks of classes wait until it is known how ids are read: so
    the fixes of all findings can be carried out together.
    """
    train, val = (None if split is None else join_blocks(split) for split in (survey.train, survey.val))
    survey = replace(survey, train=train, val=val)
    findings: list[Finding] = []
    left = survey
    for code in CHECKS:
        if code in _OF_CLASSES and any(map(_hides_classes, findings)):
            continue
        check: Check = CHECKS.load(code)
        found = [_count_left_out(left, finding) for finding in check(left)]
        findings += found
        left = left.drop(found)
    return _withhold(sorted(findings, key=lambda finding: _SEVERITIES.index(finding.severity)))


def _hides_classes(finding: Finding) -> bool:
    """Whether nothing can be said of classes before this is solved: how ids are read, or what no setting solves."""
    is_unsolved = not (finding.settings or finding.command)
    return finding.severity == "error" and (is_unsolved or not _READING.isdisjoint(finding.settings))


def _withhold(findings: Sequence[Finding]) -> list[Finding]:
    """Return findings whose settings can be written together: of two values of one key, the later one waits."""
    owners: dict[str, Finding] = {}
    result = []
    for finding in findings:
        keys = finding.settings.keys() - {"exclude"}
        other = next(
            (owners[key] for key in keys if key in owners and owners[key].settings[key] != finding.settings[key]), None
        )
        if other is not None:
            words = f"See {other.code} first, and check again."
            finding = replace(finding, fix=f"{finding.fix} {words}".strip(), settings={})
        owners |= dict.fromkeys(finding.settings, finding)
        result.append(finding)
    return result


def _count_left_out(survey: Survey, finding: Finding) -> Finding:
    """Return a finding that says if its fix leaves out most of the data."""
    num_left, num_pairs = len(survey.drop([finding]).items), len(survey.items)
    if 2 * num_left >= num_pairs:
        return finding
    words = "Most of the data are concerned: look for a common cause first. What leaves them out keeps"
    return replace(finding, fix=f"{finding.fix} {words} {describe_count(num_left, 'pair')} of {num_pairs:,}.".strip())
