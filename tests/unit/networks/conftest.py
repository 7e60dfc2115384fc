"""A web server for the tests of published weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from web_server import Server, serve


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    with serve(tmp_path / "published", monkeypatch) as server:
        yield server
