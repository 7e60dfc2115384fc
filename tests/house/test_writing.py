"""Files are written by `atomic_path` of core/files.py, or where this test says why not and what protects them.

A full disk then ends a command with one sentence, and nothing is half-written under its name.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "atrous"
ATOMIC = "atomic_path"
WRITING_METHODS = {
    "write_text",
    "write_bytes",
    "imwrite",
    "save_file",
    "savefig",
    "save",
    "tofile",
    "touch",
    "symlink_to",
}
WRITING_CALLS = {"copy2", "copyfile", "copytree", "mkstemp", "NamedTemporaryFile"}
PLAIN = {
    "core/files.py": {
        "require_space": "asks a full disk why it is full; the file is of no use any more",
        "_create_beside": "makes the temporary file of atomic_path",
        "open_deferring": "is given the temporary file of atomic_path",
    },
    "core/output_folder.py": {"_lock": "makes the lock of a folder, an empty file, and explains why it cannot"},
    "core/download.py": {"download": "continues what has arrived; who calls it verifies and explains"},
    "data/archives.py": {"open_source": "unpacks into a temporary folder, and explains why it cannot"},
    "data/facts_cache.py": {"_connect": "makes a cache, which may fail without effect"},
    "training/journal.py": {"_flush": "appends to log.txt, and explains why it cannot"},
    "inference/folders/record.py": {"_append": "appends to the journal of a folder; the writer explains why it cannot"},
    "exporting/int8.py": {"quantise": "writes into a temporary folder, and the export explains why it cannot"},
    "cli/ending.py": {"*": "opens the null device"},
    "core/seal.py": {"seal_files": "is given the temporary files of atomic_path"},
    "exporting/onnx_file.py": {"save": "is given the temporary file of atomic_path"},
    "exporting/torch_program.py": {"save": "is given the temporary file of atomic_path"},
    "images/encode.py": {"_encode": "writes to memory"},
    "inference/folders/writer.py": {"derive": "calls what writes by atomic_path"},
    "reports/plots.py": {"*": "writes to memory"},
    "scoring/bench.py": {"*": "writes to /proc, which is no disk"},
}
"""Functions by file that write otherwise, with what protects them; `*` is any function of the file."""
CALLED = {"save"}
"""A method of many objects: it counts where the first argument is a path by its name."""
PATHS = {"path", "file", "target", "plain", "out", "place", "folder"}


def iter_writes(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Yield the calls that write a file outside a block of `atomic_path`, with the function around each."""

    def walk(node: ast.AST, function: str, *, is_safe: bool) -> Iterator[tuple[str, ast.Call]]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            function, is_safe = node.name, False
        if isinstance(node, ast.With):
            is_safe = is_safe or any(ATOMIC in ast.unparse(item.context_expr) for item in node.items)
        if isinstance(node, ast.Call) and not is_safe and writes(node):
            yield function, node
        for child in ast.iter_child_nodes(node):
            yield from walk(child, function, is_safe=is_safe)

    yield from walk(tree, "", is_safe=False)


def writes(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    values = [ast.unparse(argument) for argument in (*call.args, *(keyword.value for keyword in call.keywords))]
    if name == "open":
        if "O_CREAT" in " ".join(values) or "O_WRONLY" in " ".join(values):
            return True
        return any(value.strip("'\"") in {"w", "a", "x", "wb", "ab", "xb", "r+b", "w+b"} for value in values) or any(
            " if " in value and ("'wb'" in value or "'w'" in value) for value in values
        )
    if ast.unparse(call.func) in ("shutil.copy", "shutil.move"):
        return True
    if name in CALLED:
        return any(value.split(".")[-1] in PATHS for value in values[:2])
    return name in WRITING_METHODS | WRITING_CALLS


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_files_are_written_atomically_or_it_is_known_what_protects_them(path: Path) -> None:
    plain = PLAIN.get(path.relative_to(SOURCE).as_posix(), {})
    found = [
        f"line {call.lineno}: {ast.unparse(call)[:80]} in {function}; write it in a block of {ATOMIC}"
        for function, call in iter_writes(ast.parse(path.read_text(encoding="utf-8")))
        if function not in plain and "*" not in plain
    ]
    assert found == []


def test_every_exception_still_writes() -> None:
    for name, functions in PLAIN.items():
        found = {function for function, _ in iter_writes(ast.parse((SOURCE / name).read_text(encoding="utf-8")))}
        assert found, name
        assert set(functions) - {"*"} <= found, name


@pytest.mark.parametrize(
    "line",
    [
        "path.write_text('x')",
        "open(path, 'w')",
        "path.open(mode='ab')",
        "torch.save(content, path)",
        "shutil.copy(one, other)",
        "os.open(path, os.O_CREAT)",
        "path.open('ab' if more else 'wb')",
    ],
)
def test_a_new_write_would_be_found(line: str) -> None:
    assert [name for name, _ in iter_writes(ast.parse(f"def f(path):\n    {line}"))] == ["f"]
    assert not list(iter_writes(ast.parse(f"def f(path):\n    with atomic_path(path) as temporary:\n        {line}")))
