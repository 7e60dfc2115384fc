"""docs/from-a-folder.md, followed: its commands are run on such a folder, and print what it shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
from PIL import Image

import printed
from atrous.cli.main import main

PAGE = Path(__file__).parents[2] / "docs" / "from-a-folder.md"


def read_page() -> list[tuple[str, ...]]:
    """Return the commands of the page, each with the output below it; with a network that takes no time."""
    blocks = re.findall(r"```text\n\$ (.+)\n((?:.*\n)*?)```", PAGE.read_text(encoding="utf-8"))
    return [tuple(text.replace("deeplabv3-lite0", "fcn-tiny") for text in block) for block in blocks]


def lay_out(root: Path) -> None:
    """Write 60 grey images and their masks of 0 and 255, with the faults that the page tells of."""
    generator = np.random.default_rng(0)
    for folder in ("pics", "hand drawn"):
        (root / folder).mkdir(parents=True)
    for number in range(4, 64):
        mask = np.zeros((48, 64), np.uint8)
        mask[10:30, number % 40 : number % 40 + 20] = 255
        pixels = (generator.integers(0, 120, mask.shape) + mask // 2).astype(np.uint8)
        name = "Müller 7" if number == 7 else f"DSC{number:05d}"
        Image.fromarray(pixels).save(root / "pics" / f"{name}.jpg")
        if number != 30:
            Image.fromarray(mask).save(root / "hand drawn" / f"{name}_seg.png")
    cut = root / "pics" / "DSC00005.jpg"
    cut.write_bytes(cut.read_bytes()[:-300])
    (root / "pics" / "DSC00013.jpg").write_text("no image")


def build_form(line: str) -> str:
    """Return a regular expression of a line of the page: numbers may be others, and "..." is anything."""
    forms = {"...": ".*", "─": "─+", "number": r"[\d,.]+"}
    parts = re.split(r"(\.\.\.|─+|\d[\d,.]*)", " ".join(line.split()))
    kinds = ["number" if part[:1].isdigit() else part[:1] if part.startswith("─") else part for part in parts]
    return "".join(forms.get(kind) or re.escape(part) for kind, part in zip(kinds, parts, strict=True))


def list_missing(shown: list[str], output: str) -> list[str]:
    """Return the lines of the page that a command did not print."""
    lines = [" ".join(line.split()) for line in output.splitlines()]
    return [line for line in shown if not any(re.fullmatch(build_form(line), each) for each in lines)]


def test_what_the_page_shows_is_what_is_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    root = Path("my photos")
    lay_out(root)
    blocks = read_page()
    assert [shlex.split(command)[1] for command, _ in blocks] == ["check", "check", "check", "train", "predict"]
    for number, (command, shown) in enumerate(blocks):
        words = shlex.split(command)[1:]
        if words[0] == "train":
            place = words.index("--max-minutes")
            words[place : place + 2] = printed.TRAIN
        main(words)
        output = "".join(capsys.readouterr())
        expected = [
            line
            for line in shown.splitlines()
            if not (words[0] == "train" and re.match(r"(plan:|step| *object)", line))
        ]
        assert list_missing(expected, output) == [], output
        if number == 1:  # "It replaces my photos/atrous.yaml"
            text = output.partition("with yours:\n")[2].partition("report:")[0]
            (root / "atrous.yaml").write_text(re.sub("^  ", "", text, flags=re.M), encoding="utf-8")
    assert (Path("labelled") / "DSC00030.png").is_file()
    assert (Path("labelled") / "DSC00030_overlay.jpg").is_file()
