"""A docstring says what goes in, what comes out and what is raised.

The rules hold for every public function and method in src, and for a constructor, which its class describes:

- with two parameters or more: `Args:`;
- with tensors or arrays among parameters or results: `Shapes:`, or a shape such as (B, K, h, w) in another section;
- with a `raise SomeError` of its own: `SomeError` under `Raises:`.

What is described once is not described again: each option of a command has a help text, a `forward` may leave
its shapes to its class, and a method that a `contracts.py` declares with the same parameters is described there.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "atrous"
FILES = sorted(SOURCE.rglob("*.py"))
ARRAY = re.compile(r"\b(?:Tensor|ndarray|NDArray)\b")
STATE_DICT = re.compile(r"\b(?:dict|Mapping|OrderedDict)\[str, (?:torch\.)?Tensor\]")
SHAPE = re.compile(r"\((?=[^()]*,)[^()]*\b[BCDHKMNPWhw]\b[^()]*\)|\bscalars?\b")


@dataclass(frozen=True)
class Described:
    """A public function with the docstring that describes it.

    Args:
        name: Its name, below its class's.
        node: The function.
        text: Its docstring, or its class's for a constructor.
        owner: The docstring of its class.
    """

    name: str
    node: ast.FunctionDef | ast.AsyncFunctionDef
    text: str
    owner: str

    @property
    def parameters(self) -> list[ast.arg]:
        """The parameters, self and cls not counted."""
        args = self.node.args
        extra = [parameter for parameter in (args.vararg, args.kwarg) if parameter]
        return [p for p in (*args.posonlyargs, *args.args, *args.kwonlyargs, *extra) if p.arg not in ("self", "cls")]

    @property
    def key(self) -> tuple[str, ...]:
        """What a method of a contract and the method that fulfils it have in common."""
        return (self.node.name, *(parameter.arg for parameter in self.parameters))


def iter_public(path: Path) -> Iterator[Described]:
    """Yield the public functions of a file, methods and constructors included."""

    def walk(body: list[ast.stmt], owner: ast.ClassDef | None) -> Iterator[Described]:
        for node in body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield from walk(node.body, node)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                above = (ast.get_docstring(owner) or "") if owner else ""
                name = f"{owner.name}.{node.name}" if owner else node.name
                if node.name == "__init__":
                    yield Described(name, node, above, above)
                elif not node.name.startswith("_"):
                    yield Described(name, node, ast.get_docstring(node) or "", above)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")).body, None)


def find_raised(node: ast.AST) -> set[str]:
    """Return the names of the exceptions that a function raises itself; a raised variable has none."""
    found = set()
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.Raise) and child.exc is not None:
            raised = child.exc.func if isinstance(child.exc, ast.Call) else child.exc
            name = ast.unparse(raised).split(".")[-1]
            found |= {name} if name[0].isupper() else set()
        found |= find_raised(child)
    return found


def find_gaps(function: Described) -> list[str]:
    """Return what a docstring lacks."""
    gaps = []
    annotations = [parameter.annotation for parameter in function.parameters] + [function.node.returns]
    types = STATE_DICT.sub("", " ".join(ast.unparse(annotation) for annotation in annotations if annotation))
    is_forward = function.node.name == "forward"
    if len(function.parameters) >= 2 and "Args:" not in function.text:
        gaps += [] if is_forward and "Shapes:" in function.owner else ["Args"]
    if ARRAY.search(types) and "Shapes:" not in function.text and not SHAPE.search(function.text):
        gaps += [] if is_forward and SHAPE.search(function.owner) else ["Shapes"]
    raises = function.text.partition("Raises:")[2]
    gaps += [f"Raises: {name}" for name in sorted(find_raised(function.node)) if name not in raises]
    return gaps


def find_all_gaps() -> dict[str, list[str]]:
    """Return the gaps of every file, by its path below src/atrous."""
    functions = {path.relative_to(SOURCE).as_posix(): list(iter_public(path)) for path in FILES}
    declared = {
        function.key
        for path, found in functions.items()
        if path.endswith("contracts.py")
        for function in found
        if not find_gaps(function)
    }
    gaps: dict[str, list[str]] = {}
    for path, found in functions.items():
        for function in found:
            is_command = path.startswith("cli/") and function.name in ("run", "read_inference_options")
            if not is_command and function.key not in declared and (missing := find_gaps(function)):
                gaps.setdefault(path, []).append(f"{function.name} (line {function.node.lineno}): {', '.join(missing)}")
    return gaps


GAPS = find_all_gaps()


@pytest.mark.parametrize("path", [path.relative_to(SOURCE).as_posix() for path in FILES])
def test_docstrings_describe_parameters_shapes_and_errors(path):
    assert GAPS.get(path, []) == []


def test_a_docstring_without_its_sections_is_found(tmp_path):
    file = tmp_path / "part.py"
    file.write_text(
        "def enlarge(logits: Tensor, size: int) -> Tensor:\n"
        '    """Enlarge."""\n'
        "    if size < 1:\n"
        "        raise UsageError('too small')\n"
        "def halve(logits: Tensor) -> Tensor:\n"
        '    """Return every second row of (B, K, h, w)."""\n'
        "class Layer:\n"
        '    """A layer.\n\n    Shapes:\n        in (B, C, h, w)\n    """\n'
        "    def __init__(self, a: int, b: int) -> None: ...\n"
        "    def forward(self, x: Tensor, y: Tensor) -> Tensor:\n"
        '        """Apply."""\n',
        encoding="utf-8",
    )
    assert {function.name: find_gaps(function) for function in iter_public(file)} == {
        "enlarge": ["Args", "Shapes", "Raises: UsageError"],
        "halve": [],
        "Layer.__init__": ["Args"],
        "Layer.forward": [],
    }


if __name__ == "__main__":
    for path, gaps in GAPS.items():
        sys.stdout.write("\n    ".join([path, *gaps]) + "\n")
