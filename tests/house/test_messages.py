"""Messages name keywords of Python, in backquotes; the command line shows them as its options."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "atrous"
FILES = [
    path
    for path in sorted(SOURCE.rglob("*.py"))
    if path.relative_to(SOURCE).parts[0] not in ("cli", "reports") and path.name != "provenance.py"
]
COMMAND = re.compile(r"(?:atrous [a-z]+|docker run|tensorboard|mlflow [a-z]+) [^`]*")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def find_options(source: str) -> Iterator[str]:
    """Yield options of the command line in texts that are no docstrings, outside whole commands."""
    tree = ast.parse(source)
    described = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in described:
            for option in OPTION.findall(COMMAND.sub("", node.value)):
                yield f"line {node.lineno}: {option}; write the keyword in backquotes: `{option[2:].replace('-', '_')}`"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_messages_do_not_name_options_of_the_command_line(path: Path) -> None:
    assert list(find_options(path.read_text(encoding="utf-8"))) == []


def test_an_option_would_be_found() -> None:
    source = (
        'def f(x):\n    """Use --lr."""\n    raise E(f"{x}: lower --lr", "See `atrous eval --help`; --max-minutes 3")\n'
    )
    assert sorted(line.split(";")[0] for line in find_options(source)) == ["line 3: --lr", "line 3: --max-minutes"]
