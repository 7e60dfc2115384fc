"""The documents say what is: Python blocks run, command lines parse, links and named files exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.main import get_command

import atrous
from atrous.cli.main import build_app
from atrous.config.load import load_config

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")
NOT_RUN = "<!-- not run:"
BLOCK = re.compile(r"(?P<before>[^\n]*)\n```(?P<language>\w+)\n(?P<code>.*?)^```", re.DOTALL | re.MULTILINE)


def find_blocks(text: str, language: str) -> list[str]:
    """Return the code of every block of a language that is not marked as not run."""
    found = [match for match in BLOCK.finditer(text) if match["language"] == language]
    return [match["code"] for match in found if not match["before"].startswith(NOT_RUN)]


def find_commands(text: str) -> list[str]:
    """Return the command lines of `atrous`, in blocks and in the running text."""
    blocks = [line for code in find_blocks(text, "console") for line in code.splitlines()]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    inline = [words.replace("\n", " ") for words in re.findall(r"`(atrous [^`]+)`", prose)]
    return [line for line in (*blocks, *inline) if line.startswith("atrous ")]


COMMANDS = sorted({(path.name, line) for path in DOCUMENTS for line in find_commands(path.read_text(encoding="utf-8"))})


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the README speaks of: photos/ with images/ and masks/, and a run trained on them."""
    place = tmp_path_factory.mktemp("workplace")
    generator = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (place / "photos" / kind).mkdir(parents=True)
    for number in range(5):
        mask = np.repeat(generator.integers(0, 2, (5, 1), dtype=np.uint8), 13, axis=0).repeat(81, axis=1)
        mask[:2], mask[-2:] = 0, 1
        Image.fromarray(mask * 100 + generator.integers(0, 100, mask.shape, dtype=np.uint8)).convert("RGB").save(
            place / "photos" / "images" / f"{number:03d}.jpg"
        )
        Image.fromarray(mask).save(place / "photos" / "masks" / f"{number:03d}.png")
    atrous.train(
        place / "photos",
        out=place / "runs" / "photos",
        iterations=1,
        batch=1,
        crop=65,
        set={"model.weights": "none", "model.head": {"rates": [1, 2, 3]}},
    )
    return place


@pytest.mark.parametrize("code", find_blocks(README, "python"))
def test_python_in_the_readme_runs(code, workplace, monkeypatch):
    monkeypatch.chdir(workplace)
    torch.manual_seed(0)
    exec(compile(code, "README.md", "exec"), {})


@pytest.mark.parametrize("name", ["network.md", "python.md"])
def test_python_in_the_guides_runs_from_top_to_bottom(name, workplace, tmp_path, monkeypatch):
    for path in workplace.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    namespace: dict[str, object] = {}
    for code in find_blocks((ROOT / "docs" / name).read_text(encoding="utf-8"), "python"):
        exec(compile(code, name, "exec"), namespace)


def test_shapes_in_the_readme_are_true():
    lines = [line for code in find_blocks(README, "python") for line in code.splitlines()]
    namespace: dict[str, object] = {}
    checked = 0
    start = next(number for number, line in enumerate(lines) if "deeplabv3-resnet18" in line)
    exec("import atrous, torch", namespace)
    with torch.no_grad():
        for line in lines[start:]:
            code, _, comment = line.strip().partition("#")
            if code.rstrip().endswith(".shape"):
                assert str(tuple(eval(code, namespace))) in comment
                checked += 1
            elif not code.startswith("with "):
                exec(code, namespace)
    assert checked == 3


def test_the_plain_loop_has_ten_lines():
    (code,) = [code for code in find_blocks(README, "python") if "optimizer.step()" in code]
    (loop,) = [part for part in code.split("\n\n") if "optimizer.step()" in part]
    assert len(loop.strip().splitlines()) == 10


@pytest.mark.parametrize(("document", "line"), COMMANDS)
def test_command_lines_in_the_documents_parse(document, line):
    words = shlex.split(line, comments=True)[1:]
    if words[0].startswith("-"):
        assert words[0] in {option for parameter in get_command(build_app()).params for option in parameter.opts}
        return
    command = get_command(build_app()).commands[words[0]]  # an unknown command is a KeyError
    if len(words) == 1:
        return
    if any(word.isupper() for word in words):  # a form, not a line to type: its words stand for others
        words = [word for word in words if word.startswith("--")]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word.partition("=")[0] for word in words} <= options
        return
    context = command.make_context(words[0], words[1:])
    # A setting that does not exist, or a value that it cannot have, is a ConfigError.
    load_config(recipe=context.params.get("recipe"), assignments=context.params.get("assignments") or [])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    targets = re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8"))
    assert [name for name in targets if "://" not in name and not (path.parent / name).exists()] == []


@pytest.mark.parametrize(
    "path", [path for path in DOCUMENTS if path.name != "CHANGELOG.md"], ids=lambda path: path.name
)
def test_source_files_named_in_the_documents_exist(path):
    named = re.findall(r"`((?:\w+/)*\w+\.py)", path.read_text(encoding="utf-8"))
    bases = (ROOT, ROOT / "src" / "atrous")
    paths = [name for name in named if "/" in name]
    assert [name for name in paths if not any((base / name).exists() for base in bases)] == []


def test_the_layout_in_the_architecture_is_that_of_the_source():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    layout = text.split("```")[1]
    source = ROOT / "src" / "atrous"
    files = {path.relative_to(source) for path in source.rglob("*.py")}
    named = set(re.findall(r"\b\w+\.py\b", layout))
    assert {path.name for path in files if path.name != "__init__.py"} <= named
    assert named <= {path.name for path in files}
    folders = {path.parent.name for path in files} - {""}
    assert {name for name in folders if f" {name}/" not in layout} == set()
