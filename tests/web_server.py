"""A web server for the tests of downloads."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Server:
    """A web server over a folder, which can continue a file.

    What is under `short/` breaks off half way; what is under `bare/` is sent whole, as a part without a place or size.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.ranges: list[str] = []
        server = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *arguments: object) -> None:
                super().__init__(*arguments, directory=str(folder))

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                server.asked.append(self.path)
                server.ranges.append(self.headers["Range"] or "")
                file = folder / Path(self.path).name
                is_short = self.path.startswith("/short/")
                if not is_short and (not server.ranges[-1] or not file.is_file() or self.path.startswith("/whole/")):
                    super().do_GET()
                    return
                content = file.read_bytes()
                if self.path.startswith("/bare/"):
                    self.send_response(206)
                    self.send_header("Content-Length", "many")
                    self.end_headers()
                    self.wfile.write(content)
                    return
                start = int(server.ranges[-1].removeprefix("bytes=").removesuffix("-") or 0)
                if start >= len(content):
                    self.send_error(416)
                    return
                self.send_response(206 if start else 200)
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                self.wfile.write(content[start : start + (len(content) - start) // (2 if is_short else 1)])

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}"

    def publish(self, source: Path, place: str) -> str:
        path = self.folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.read_bytes())
        return f"{self.address}/{place}"


@contextmanager
def serve(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Serve a new folder while the block runs, without any proxy between."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    folder.mkdir()
    server = Server(folder)
    with server.http:
        threading.Thread(target=server.http.serve_forever, daemon=True).start()
        yield server
        server.http.shutdown()
