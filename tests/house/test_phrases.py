"""Phrases that a technical writer of this field would not use, and what to write in their place."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [
    *sorted(path for path in (ROOT / "src").rglob("*") if path.suffix in {".py", ".j2", ".yaml"}),
    *sorted((ROOT / "benchmarks").glob("*.py")),
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "NOTICE",
]
PHRASES = {
    r"left out": "omitted, skipped; for a parameter: 'Default: ...'",
    r"living": "a network, a loaded model",
    r"(?<!\")pictures?(?!\")": "image",
    r"stands? (?:in|on|at|as|under|beside|there|twice|repeatedly)": "is, is stored, appears, occurs",
    r"lies? (?:in|beside|there)": "is, is stored; of pixels: is inside",
    r"the places? of": "replaces, instead of, the path of",
    r"at no time": "never",
    r"told (?:what|of|by)": "receives",
    r"whoever": "the caller, the user",
    r"nobody|somebody": "the user, no one; or name the thing that is missing",
    r"a person(?:'s)?": "a user",
    r"wishes": "options, settings",
    r"gains? by": "is faster with, supports",
    r"(?:to|known to|seen to) bear": "has the same score with, tolerates",
    r"dearer": "more expensive",
    r"anew": "again, from scratch",
    r"for ever": "indefinitely, always",
    r"goes on": "continues",
    r"(?:is|are) (?:not )?there\b(?! (?:is|are))": "exists, is present",
    r"(?<!word\s)in words(?!\selse)": "with an error message, as text",
    r"(?:is|are) said": "is logged, is reported",
    r"commonest": "most frequent",
    r"mend(?:s|ed)?": "fix, repair",
}
"""Each phrase as a regular expression of whole words, with what to write."""
EXPRESSIONS = {
    re.compile(rf"\b(?:{phrase})\b".replace(" ", r"\s+"), re.IGNORECASE): plain for phrase, plain in PHRASES.items()
}


def find_phrases(text: str) -> list[str]:
    """Return each phrase found, with its line and what to write."""
    found = []
    for expression, plain in EXPRESSIONS.items():
        for match in expression.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found.append(f"line {line}: {' '.join(match[0].split())!r}; write: {plain}")
    return found


@pytest.mark.parametrize("path", [path.relative_to(ROOT).as_posix() for path in FILES])
def test_the_text_is_plain_english(path):
    assert find_phrases((ROOT / path).read_text(encoding="utf-8")) == []


def test_a_phrase_is_found_by_its_words_alone():
    assert len(find_phrases('A living network.\nWhere it stands\nin a file.\n"picture" and pictures; cliving')) == 3


if __name__ == "__main__":
    for file in FILES:
        if phrases := find_phrases(file.read_text(encoding="utf-8")):
            sys.stdout.write("\n    ".join([file.relative_to(ROOT).as_posix(), *phrases]) + "\n")
