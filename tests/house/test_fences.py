"""Fences inside the layers: who decodes and encodes images, and who reads the configuration."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src" / "atrous"
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE / "images")
CODECS = {"imread", "imreadmulti", "imwrite", "imwritemulti", "imencode", "imdecode", "VideoCapture"}
"""OpenCV's calls that read or write encoded images."""
DRAWING = {"data/preview.py", "data/convert/shapes.py"}
"""Files that draw with PIL; they may neither open nor save."""


def find_codec_calls(tree: ast.AST) -> Iterator[str]:
    """Yield the calls of OpenCV, and of PIL in a file that imports it, that decode or encode an image."""
    modules = {getattr(node, "module", None) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            is_pil = "PIL" in modules and node.attr in ("open", "save", "frombytes", "frombuffer")
            if node.attr in CODECS or is_pil:
                yield f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_images_are_decoded_and_encoded_in_images_alone(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert list(find_codec_calls(tree)) == []
    imports = {(node.module or "").split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imports |= {
        name.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names
    }
    if str(path.relative_to(PACKAGE)) not in DRAWING:
        assert "PIL" not in imports


def test_the_fence_sees_what_it_is_for():
    code = "from PIL import Image\nImage.open(p)\nImage.fromarray(a).save(p)\ncv2.imwrite(p, a)"
    assert len(list(find_codec_calls(ast.parse(code)))) == 3


@pytest.mark.parametrize("folder", ["networks", "data", "losses", "inference"])
def test_config_is_imported_by_build_alone(folder):
    """The parts take plain arguments and work without a configuration."""
    readers = [
        path.name for path in (PACKAGE / folder).rglob("*.py") if "atrous.config" in path.read_text(encoding="utf-8")
    ]
    assert set(readers) <= {"build.py"}
