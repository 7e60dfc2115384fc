"""What checks look at, and running all of them."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from atrous.core.findings import Finding
from atrous.core.split_options import DEFAULT_SPLIT, SplitOptions
from atrous.data import CHECKS
from atrous.data.facts import DatasetFacts, join_blocks
from atrous.data.inventory import Inventory

FEW_EXCLUDED = 20
"""Files that a fix leaves out where another fix keeps them."""


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
    is_range_given: bool = False
    are_channels_given: bool = False
    is_weighted: bool = False
    is_trial: bool = False

    @property
    def splits(self) -> tuple[DatasetFacts, ...]:
        """The splits whose facts are known."""
        return tuple(split for split in (self.train, self.val) if split is not None)

    def exclude(self, files: Sequence[str | Path], *, few: bool = False) -> dict[str, list[str]]:
        """Return the settings that leave out some files, each with its partner; none for more than half of the data.

        Args:
            files: Images or masks in the folder of the data.
            few: Whether there is another solution, so that only a few files are skipped.
        """
        num_items = sum(len(split.items) for split in self.splits) or sum(each.num_pairs for each in self.inventories)
        if self.root is None or len(files) > (min(FEW_EXCLUDED, num_items / 2) if few else num_items / 2):
            return {}
        paths = [Path(os.path.relpath(file, self.root)).as_posix() for file in files]
        return {"exclude": [*self.excluded, *(glob.escape(path) for path in paths if not path.startswith("../"))]}


Check = Callable[[Survey], Iterator[Finding]]
"""One check: yields findings of its own code, or nothing."""


def run_checks(survey: Survey) -> list[Finding]:
    """Run every check on some data, in the order of the table."""
    train, val = (None if split is None else join_blocks(split) for split in (survey.train, survey.val))
    survey = replace(survey, train=train, val=val)
    findings: list[Finding] = []
    for code in CHECKS:
        check: Check = CHECKS.load(code)
        findings += check(survey)
    return findings
