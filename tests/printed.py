"""What `atrous check` prints, carried out word by word: its lines become the atrous.yaml, and its commands run."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from atrous.cli.main import main

TRAIN = (
    *("--model", "fcn-tiny", "--weights", "none", "--iterations", "1", "--crop", "33", "--batch", "2"),
    *("--workers", "0", "--device", "cpu"),
)
MOST_ROUNDS = 3
"""Checks after which the data have to be sound."""


@dataclass
class Printed:
    """The output of a check.

    Args:
        code: The exit code.
        found: Severity and code of each finding.
        lines: The last lines of an atrous.yaml that errors and warnings print, or those of all findings together.
        commands: The commands that they print.
    """

    code: int
    found: list[tuple[str, str]] = field(default_factory=list)
    lines: str = ""
    commands: list[str] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether there are notes alone."""
        return all(severity == "note" for severity, _ in self.found)


def check(root: Path, read: Callable[[], str]) -> Printed:
    """Run `atrous check` and take its output apart.

    Args:
        root: The data.
        read: Returns what has been printed on standard output.
    """
    read()
    printed = Printed(main(["check", str(root), "--out", str(root.parent / "check.html")]))
    lines = read().splitlines()
    where, severity = "", ""
    for line in lines:
        if begins := re.match(r"(error|warning|note) ([a-z0-9-]+): ", line):
            where, severity = "finding", begins[1]
            printed.found.append((begins[1], begins[2]))
        elif line.startswith("atrous.yaml with all of these lines"):
            where, printed.lines = "all", ""
        elif not line.startswith("  "):
            where = ""
        elif where == "finding" and line == "  in atrous.yaml:":
            where, printed.lines = "lines" if severity != "note" else "", ""
        elif where in ("lines", "all"):
            printed.lines += line[2:] + "\n"
        elif where == "finding" and severity != "note" and re.match(r"  (atrous|mv|chmod) -?\S", line):
            printed.commands.append(line[2:])
    return printed


def carry_out(root: Path, printed: Printed) -> tuple[Path, list[str]]:
    """Do what is printed; return the data, which may be converted ones, and the options of a training.

    Args:
        root: The data.
        printed: The output of their check.
    """
    options: list[str] = []
    if "writes all of them" in printed.lines:
        main(["check", str(root), "--write", "--out", str(root.parent / "check.html")])
    elif printed.lines:
        (root / "atrous.yaml").write_text(printed.lines, encoding="utf-8")
    for command in printed.commands:
        words = shlex.split(command)
        if words[:2] == ["atrous", "train"]:
            assert words[2] == str(root)
            options += words[3:]
        elif words[0] == "atrous":
            assert main(words[1:]) == 0
            root = Path(words[words.index("--out") + 1]).absolute()
        else:
            assert os.system(command) == 0
    return root, options


def solve(root: Path, read: Callable[[], str]) -> tuple[Path, list[str], Printed]:
    """Check and carry out what is printed, again and again until notes are left, or nothing to do.

    Returns:
        The data, the options of a training, and what the last check printed.
    """
    options: list[str] = []
    printed = check(root, read)
    for _ in range(MOST_ROUNDS):
        if printed.is_sound or not (printed.lines or printed.commands):
            break
        root, more = carry_out(root, printed)
        options += more
        if more:  # a training weighs what the check of the data alone warns of
            break
        printed = check(root, read)
    return root, options, printed


def train(root: Path, *options: str) -> int:
    """Run a training of one step with what is printed, and return its exit code."""
    return main(["train", str(root), "--out", str(root.parent / f"run of {root.name}"), *options, *TRAIN])
