"""Downloads over HTTP. The one place that asks a server; who calls it verifies what came."""

from __future__ import annotations

import logging
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from atrous.core.records import Progress, ProgressCallback

TIMEOUT_S = 30
"""How long a server may stay silent."""
DOWNLOAD_ERRORS = (HTTPException, OSError)
"""What `download` raises."""
_PIECE_BYTES = 2**20
_NOT_SATISFIABLE = 416

_log = logging.getLogger("atrous")


def download(url: str, path: Path, *, progress: ProgressCallback | None = None) -> None:
    """Write what a server sends to the end of a file: a file that has a beginning already is continued.

    A server that cannot continue sends the whole, and the file is written again from its beginning.

    Args:
        url: Address of the file.
        path: The file, which exists or not.
        progress: Receives the progress in megabytes.
    Raises:
        OSError: The server does not answer, or sends less than it announced; what came is kept. Or the file cannot be
            written.
        HTTPException: It does not speak HTTP.
    """
    start = path.stat().st_size if path.exists() else 0
    request = Request(url, headers={"User-Agent": "atrous"} | ({"Range": f"bytes={start}-"} if start else {}))
    try:
        answer = urlopen(request, timeout=TIMEOUT_S)
    except HTTPError as error:
        error.close()  # the error is the open response itself
        if error.code == _NOT_SATISFIABLE and start:  # nothing is missing
            return
        raise
    with answer:
        is_continued = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        done = start if is_continued else 0
        announced = answer.headers.get("Content-Length", "")
        total = done + int(announced) if announced.isdecimal() else None
        if not is_continued:
            _log.warning("downloading %s (%s bytes), once", url, announced or "an unknown number of")
        with path.open("ab" if is_continued else "wb") as file:
            while piece := answer.read(_PIECE_BYTES):
                file.write(piece)
                done += len(piece)
                if progress is not None:
                    size = None if total is None else -(-total // 10**6)
                    progress(Progress(f"downloading {path.name} (MB)", done // 10**6, size))
    if total is not None and done != total:
        raise OSError(f"{done} of {total} bytes arrived")
    if progress is not None:
        progress(Progress(f"downloading {path.name} (MB)", -(-done // 10**6), -(-done // 10**6)))
