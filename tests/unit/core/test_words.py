from __future__ import annotations

import ast
import os
import re
import subprocess
from pathlib import Path

import pytest

import atrous
from atrous.core.words import add_article, describe_count, escape_unprintable, spell_command, spell_path

PLURALS = re.compile(
    r"(?<!x )(?<!run )(?<!\()\{\} (images|pairs|masks|files|classes|steps|weights|tensors|problems|seeds|trainings|"
    r"colours|cores|threads|cells|places|windows|validations|epochs|models|samples|turns|ids|keys)\b"
)
"""A number in front of a noun that `describe_count` has not formatted; not sizes, kinds of files or fractions."""


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (0, "pair", "0 pairs"),
        (1, "pair", "1 pair"),
        (2, "pair", "2 pairs"),
        (2400, "mask", "2,400 masks"),
        (1, "class", "1 class"),
        (2, "class", "2 classes"),
        (2, "hard class", "2 hard classes"),
        (3, "batch", "3 batches"),
        (3, "box", "3 boxes"),
        (2, "entry", "2 entries"),
        (2, "key", "2 keys"),
    ],
)
def test_counts(count, noun, text):
    assert describe_count(count, noun) == text


@pytest.mark.parametrize(
    ("noun", "text"), [("int", "an int"), ("Model", "a Model"), ("Image", "an Image"), ("unit", "a unit")]
)
def test_articles(noun, text):
    assert add_article(noun) == text


def test_no_message_counts_by_itself():
    """`f"{n} images"` says "1 images"."""
    found = []
    for path in Path(atrous.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                text = "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
                found += [f"{path.name}:{node.lineno}: {text}" for match in [PLURALS.search(text)] if match]
    assert found == []


def test_what_no_screen_shows_is_escaped():
    assert escape_unprintable("a\x1b[31m\nü\udcff\u2028\U000e0001 b") == r"a\u001b[31m\u000aü\udcff\u2028\U000e0001 b"


@pytest.mark.parametrize(
    "word", ["a b", "it's", "-x", "$(id)", "new\nline", "\x1b[31m", "tab\t", "ü", os.fsdecode(b"\xff\xfe")]
)
def test_a_command_gives_each_word_as_one_argument(word):
    command = spell_command(["printf", "%s", word])
    assert command.isprintable()
    assert subprocess.run(["bash", "-c", command], capture_output=True, check=True).stdout == os.fsencode(word)


def test_no_path_is_an_option():
    assert (spell_path("-data"), spell_path("data")) == ("./-data", "data")
