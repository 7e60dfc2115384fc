"""The archives of an official data set, from their sites to a folder: continued where they broke off, and verified."""

from __future__ import annotations

import hashlib
from pathlib import Path

from atrous.core.download import DOWNLOAD_ERRORS, download
from atrous.core.errors import DataError, MachineError, UsageError, note_on_stop
from atrous.core.output_folder import hold_folder
from atrous.core.records import Progress, ProgressCallback
from atrous.core.system_errors import describe_write_error, is_write_error, raise_shortage
from atrous.data.prepare.contracts import Archive, Layout

_PIECE_BYTES = 2**22


def fetch_archives(layout: Layout, folder: Path, progress: ProgressCallback) -> list[Path]:
    """Return the archives of a data set in a folder; those that are missing there are downloaded.

    A part that came is kept as `<name>.partial` and continued by the next call. A file gets its name once it is
    verified.

    Args:
        layout: Which archives it has.
        folder: Folder to keep them in.
        progress: Receives the progress.
    Raises:
        UsageError: Its archives cannot be downloaded.
        DataError: A file is not the official one.
        MachineError: A server does not answer, a transfer broke off, or the disk is full.
    """
    if not layout.archives:
        raise UsageError(
            "these data cannot be downloaded: no archive with a published hash is offered to everyone",
            f"Get it yourself: {layout.origin}.",
        )
    with hold_folder(folder), note_on_stop(lambda _: "Run the same command again: it continues the download."):
        return [
            _fetch(layout, archive, folder / archive.url.rsplit("/", 1)[-1], progress) for archive in layout.archives
        ]


def _fetch(layout: Layout, archive: Archive, path: Path, progress: ProgressCallback) -> Path:
    if path.is_file():
        if _compute_digest(path, archive, progress) != archive.digest:
            raise DataError(
                f"{path}: is not the official file ({archive})",
                f"It was left as it is. Move it away to download {archive.url}, or put the right file there.",
            )
        return path
    partial = path.with_name(f"{path.name}.partial")
    try:
        download(archive.url, partial, progress=progress)
    except DOWNLOAD_ERRORS as error:
        raise_shortage(error, partial)  # a full disk: an error of a write has no name of a file
        if isinstance(error, OSError) and is_write_error(error) and error.filename:
            raise describe_write_error(error, partial) from error
        raise MachineError(
            f"{archive.url} cannot be downloaded: {error}",
            f"Run the same command again to continue. Without a network: put the file at {path} ({archive}), or give "
            f"all archives as sources, without `download`: {layout.origin}.",
        ) from error
    if _compute_digest(partial, archive, progress) != archive.digest:
        partial.unlink()
        raise DataError(
            f"{archive.url}: the download is not the official file ({archive})",
            f"Nothing was kept; try again, or put the right file at {path}.",
        )
    return partial.rename(path)


def _compute_digest(path: Path, archive: Archive, progress: ProgressCallback) -> str:
    digest, size = hashlib.new(archive.algorithm, usedforsecurity=False), path.stat().st_size
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
            progress(Progress(f"verifying {path.name} (MB)", -(-file.tell() // 10**6), -(-size // 10**6)))
    return digest.hexdigest()
