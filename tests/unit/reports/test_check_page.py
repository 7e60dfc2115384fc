from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from atrous.config.schema import DataConfig
from atrous.core.errors import UsageError
from atrous.core.findings import CheckResult, Finding
from atrous.data.build import find_splits
from atrous.reports.check_page import MARK, require_page_place, write_check_page


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(0)
    for number in range(4):
        for kind, pixels in (("images", generator.integers(0, 256, (20, 30, 3))), ("masks", np.eye(20, 30))):
            (tmp_path / "mine" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "mine" / kind / f"{number}.png")
    return tmp_path / "mine"


def write(folder, *findings, path=None) -> str:
    splits = find_splits(DataConfig(source=str(folder)))
    path = path or folder.parent / "check.html"
    write_check_page(path, CheckResult(str(folder), splits.layout, findings=findings), (splits.train, splits.val))
    return path.read_text(encoding="utf-8")


def test_the_page_shows_images_and_needs_nothing_else(folder):
    page = write(folder)
    assert page.count("data:image/jpeg;base64,") == 4
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", page)
    assert "0 errors, 0 warnings, 0 notes" in page
    assert "A training accepts these data." in page


def test_files_of_findings_are_shown_with_their_fix(folder):
    (folder / "masks" / "2.png").write_bytes(b"")
    (folder / "images" / "3.png").write_bytes(b"")
    names = tuple(str(folder / name) for name in ("masks/2.png", "images/3.png", "images/elsewhere.png"))
    finding = Finding(
        "a-code", "error", 3, "<b>3 files</b>", names, "Do it.", {"exclude": ["2.png"]}, "mv -- a.png b.png"
    )
    page = write(folder, finding, Finding("other", "note", 1, "said", (str(folder / "images" / "0.png"),)))
    assert "&lt;b&gt;3 files&lt;/b&gt;" in page
    assert "mv -- a.png b.png" in page
    assert "exclude: [&#34;2.png&#34;]" in page
    assert "A training refuses these data" in page
    first = page.split('class="finding note"')[0]
    assert first.count("data:image/jpeg") == 1
    assert "2 (without its mask)" in first


def test_no_layout_is_a_page_too(tmp_path):
    write_check_page(tmp_path / "a.html", CheckResult("mine"), ())
    assert "mine" in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_only_a_page_of_a_check_is_replaced(folder, tmp_path):
    path = tmp_path / "a.html"
    require_page_place(path)
    assert not path.exists()
    write(folder, path=path)
    require_page_place(path)
    path.write_text(path.read_text(encoding="utf-8").replace(f'content="{MARK}"', ""))
    with pytest.raises(UsageError, match="would be lost"):
        require_page_place(path)
    with pytest.raises(UsageError, match="is a folder"):
        require_page_place(tmp_path)
