from __future__ import annotations

from pathlib import Path

import pytest

from atrous.core.download import DOWNLOAD_ERRORS, download
from atrous.core.records import Progress
from web_server import serve

CONTENT = bytes(range(256)) * 9000


def test_a_download_continues_where_it_broke_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "source").write_bytes(CONTENT)
    told: list[Progress] = []
    with serve(tmp_path / "published", monkeypatch) as server:
        server.publish(tmp_path / "source", "a.bin")
        path = tmp_path / "a.partial"
        with pytest.raises(OSError, match=f"{len(CONTENT) // 2} of {len(CONTENT)} bytes arrived"):
            download(f"{server.address}/short/a.bin", path)
        assert path.read_bytes() == CONTENT[: len(CONTENT) // 2]
        download(f"{server.address}/a.bin", path, progress=told.append)
        assert path.read_bytes() == CONTENT
        assert server.ranges == ["", f"bytes={len(CONTENT) // 2}-"]
        assert (told[-1].done, told[-1].total) == (3, 3)
        assert told[0].stage == "downloading a.partial (MB)"
        download(f"{server.address}/a.bin", path)  # all of it is there
        assert path.read_bytes() == CONTENT


def test_a_server_that_cannot_continue_sends_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "source").write_bytes(CONTENT)
    with serve(tmp_path / "published", monkeypatch) as server:
        server.publish(tmp_path / "source", "whole/a.bin")
        (tmp_path / "a.partial").write_bytes(b"of another file")
        download(f"{server.address}/whole/a.bin", tmp_path / "a.partial")
        assert (tmp_path / "a.partial").read_bytes() == CONTENT
        (tmp_path / "a.partial").write_bytes(b"of another file")
        server.publish(tmp_path / "source", "a.bin")
        download(f"{server.address}/bare/a.bin", tmp_path / "a.partial")
        assert (tmp_path / "a.partial").read_bytes() == CONTENT
        (tmp_path / "b.partial").write_bytes(b"kept")
        with pytest.raises(DOWNLOAD_ERRORS, match="404"):
            download(f"{server.address}/b.bin", tmp_path / "b.partial")
        assert (tmp_path / "b.partial").read_bytes() == b"kept"
