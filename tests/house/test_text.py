"""What is published holds nothing of the place where it was written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KINDS = {".py", ".md", ".yaml", ".yml", ".toml", ".txt", ".json", ".html", ".css", ".js", ".csv", ""}
FOLDERS = ("src", "tests", "docs", "benchmarks", "results", ".ci")
FILES = [
    path
    for place in [*ROOT.glob("*"), *(below for folder in FOLDERS for below in (ROOT / folder).rglob("*"))]
    for path in [place]
    if path.is_file()
    and path.suffix in KINDS
    and not {"__pycache__", ".git"} & set(path.parts)
    and path != Path(__file__)
]
FOREIGN = re.compile(r"/(?:home|Users|root|work)/\w|\bTODO\b|\bFIXME\b")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_path_of_a_workshop_and_no_unfinished_note(path):
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if FOREIGN.search(line)
    ]
    assert found == []
