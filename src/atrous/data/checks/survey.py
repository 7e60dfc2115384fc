"""What checks look at, and running all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from atrous.core.findings import Finding
from atrous.data import CHECKS
from atrous.data.facts import DatasetFacts
from atrous.data.inventory import Inventory


@dataclass(frozen=True)
class Survey:
    """All that is known of some data. A check looks at its own part and finds nothing where that part is missing.

    Args:
        inventories: What is in the folders, one for each split.
        train: Facts of the data to train on; None if they have not been read.
        val: Facts of the data to score on; None likewise.
        are_classes_named: Whether the classes were named by the user or by a registered data set, not found in masks.
    """

    inventories: tuple[Inventory, ...] = ()
    train: DatasetFacts | None = None
    val: DatasetFacts | None = None
    are_classes_named: bool = False

    @property
    def splits(self) -> tuple[DatasetFacts, ...]:
        """The splits whose facts are known."""
        return tuple(split for split in (self.train, self.val) if split is not None)


Check = Callable[[Survey], Iterator[Finding]]
"""One check: yields findings of its own code, or nothing."""


def run_checks(survey: Survey) -> list[Finding]:
    """Run every check on some data, in the order of the table."""
    findings: list[Finding] = []
    for code in CHECKS:
        check: Check = CHECKS.load(code)
        findings += check(survey)
    return findings
