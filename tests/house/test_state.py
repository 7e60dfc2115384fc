"""No state outlives a call, but for a few caches that are listed here with their owners and bounds."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "atrous"
CACHES = {
    ("core/machine.py", "_list_quotas"): "the CPU quotas of this process, one reading",
    ("core/load_compiled.py", "load_compiled"): "the functions that numba compiles, at most eight",
    ("inference/backends/openvino_model.py", "find_core"): "OpenVINO's core, one a process, which must never be freed",
}
"""Caches of the process, with what they hold; at most three."""
MUTATORS = {"add", "append", "clear", "discard", "extend", "insert", "pop", "remove", "setdefault", "update"}
EMPTY_CALLS = {"dict", "list", "set", "defaultdict", "OrderedDict", "Counter", "deque"}


def iter_modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(SOURCE.rglob("*.py")):
        yield path.relative_to(SOURCE).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def find_name(node: ast.expr) -> str:
    """Return the last word of a decorator or of what is called."""
    node = node.func if isinstance(node, ast.Call) else node
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def is_bounded(function: ast.FunctionDef, decorator: ast.expr) -> bool:
    """Return whether a cache has a size, or its function no arguments."""
    sizes = [keyword.value for keyword in decorator.keywords] if isinstance(decorator, ast.Call) else []
    has_size = any(isinstance(size, ast.Constant) and isinstance(size.value, int) for size in sizes)
    return has_size or not (function.args.args or function.args.kwonlyargs)


def test_caches_are_few_listed_and_bounded() -> None:
    found = {}
    for name, module in iter_modules():
        for node in ast.walk(module):
            for decorator in getattr(node, "decorator_list", ()):
                if find_name(decorator) in ("cache", "lru_cache"):
                    found[name, node.name] = is_bounded(node, decorator)
            if isinstance(node, ast.Call) and find_name(node) in ("cache", "lru_cache") and node.args:
                found[name, ast.unparse(node)] = False
    assert set(found) == set(CACHES)
    assert all(found.values())
    assert len(CACHES) <= 3


def find_module_state(module: ast.Module) -> Iterator[str]:
    """Yield what a module keeps between calls: empty containers, and containers or names that functions change."""
    containers = set()
    for statement in module.body:
        if not isinstance(statement, (ast.Assign, ast.AnnAssign)) or statement.value is None:
            continue
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        value = statement.value
        names = {target.id for target in targets if isinstance(target, ast.Name)}
        is_display = isinstance(value, (ast.Dict, ast.List, ast.Set, ast.DictComp, ast.ListComp, ast.SetComp))
        if is_display or (isinstance(value, ast.Call) and find_name(value) in EMPTY_CALLS):
            containers |= names
        is_empty = isinstance(value, (ast.Dict, ast.List)) and not ast.unparse(value).strip("{}[]")
        if is_empty or (isinstance(value, ast.Call) and find_name(value) in EMPTY_CALLS and not value.args):
            yield f"{', '.join(names)} is empty, so something fills it"
    for node in ast.walk(module):
        if isinstance(node, ast.Global):
            yield f"global {', '.join(node.names)}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
            if getattr(node.func.value, "id", None) in containers:
                yield ast.unparse(node)
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, (ast.Store, ast.Del)):
            if getattr(node.value, "id", None) in containers:
                yield ast.unparse(node)


def test_no_module_keeps_state() -> None:
    found = [f"{name}: {what}" for name, module in iter_modules() for what in find_module_state(module)]
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "KEPT = {}",
        "KEPT: dict[str, int] = dict()",
        "A = [1]\ndef f():\n    A.append(2)",
        "A = {1: 2}\ndef f():\n    A[1] = 3",
    ],
)
def test_state_would_be_found(source: str) -> None:
    assert list(find_module_state(ast.parse(source)))


def test_nothing_counts_the_writes_to_tensors_or_keeps_weak_tables_of_networks() -> None:
    for name, module in iter_modules():
        for node in ast.walk(module):
            word = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
            assert word != "_version", name
            assert not (word.startswith("Weak") and word.endswith(("Dictionary", "Set"))), name
