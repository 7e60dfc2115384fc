"""Archives and folders as a stream of files. Both come from elsewhere: nothing is written where a member says.

An archive is never unpacked as a whole. Who reads one gets its members one after another and decides where each goes.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Literal, cast

from atrous.core.errors import AtrousError, DataError, UsageError
from atrous.core.system_errors import describe_reason, describe_write_error, raise_shortage

LARGEST_RATIO, SPARE_BYTES = 200, 2**26
"""An archive may hold so many times its own size, and so many bytes more: images and JSON are far below that."""
MOST_MEMBERS = 2**22
_PIECE_BYTES = _HEADER_BYTES = 2**20
"""What tarfile may read at once: more is asked for only by a header that says so, before any member is known."""
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OverflowError)
"""What the two modules raise for damaged archives; zipfile says an unknown compression with a RuntimeError."""
Kind = Literal["zip", "tar", "tar.gz"]


@dataclass(frozen=True)
class Member:
    """A file of an archive or of a folder.

    Args:
        source: The archive or the folder.
        name: Its path in there, with "/".
        size: Bytes.
        open: Opens it, until the next member is asked for.
    """

    source: Path
    name: str
    size: int
    open: Callable[[], IO[bytes]]

    def read(self) -> bytes:
        """Return its bytes.

        Raises:
            DataError: It is damaged.
        """
        buffer = io.BytesIO()
        self.copy_to(buffer)
        return buffer.getvalue()

    def copy_to(self, file: IO[bytes]) -> None:
        """Write its bytes into an open file, a piece at a time.

        Raises:
            DataError: It is damaged.
            OSError: The file cannot be written.
        """
        place = f"{self.source}: {self.name}"
        with _explain_damage(place):
            stream = self.open()
        with stream:
            missing = self.size
            while missing:
                with _explain_damage(place):
                    piece = stream.read(min(missing, _PIECE_BYTES))
                if not piece:
                    raise DataError(f"{place}: {missing:,} of {self.size:,} bytes are missing", "Copy it again.")
                file.write(piece)
                missing -= len(piece)
            with _explain_damage(place):
                stream.read(1)  # a checksum is compared at the end


def find_kind(source: Path) -> Kind | None:
    """Return what kind of archive a file is, by its content; None for a folder and for any other file."""
    if not source.is_file():
        return None
    if zipfile.is_zipfile(source):
        return "zip"
    with source.open("rb") as file:
        head = file.read(512)
    if head[:2] == b"\x1f\x8b":
        return "tar.gz"
    return "tar" if head[257:262] == b"ustar" else None


def iter_members(source: Path) -> Iterator[Member]:
    """Yield the files of an archive (.tar, .tar.gz, .tgz, .zip) or of a folder, in their order there.

    Hidden files are skipped, and so is what macOS adds to archives.

    Args:
        source: The archive or the folder; links of a folder are followed, each folder once.
    Raises:
        UsageError: It is neither.
        DataError: The archive is damaged or encrypted, holds far more than its size allows, or has a member whose
            path leads out of it, or that is a link or a device.
    """
    if source.is_dir():
        yield from _iter_folder(source)
        return
    kind = find_kind(source)
    if kind is None:
        raise UsageError(f"{source} is no archive that is read", "Allowed: .tar, .tar.gz, .tgz, .zip, or a folder.")
    iter_kind = _iter_zip if kind == "zip" else _iter_tar
    budget = source.stat().st_size * LARGEST_RATIO + SPARE_BYTES
    for number, member in enumerate(iter_kind(source)):
        budget -= member.size
        if budget < 0 or number >= MOST_MEMBERS:
            raise DataError(f"{source}: holds far more than its size allows", "Download it again from its own site.")
        if not any(part.startswith((".", "__MACOSX")) for part in member.name.split("/")):
            yield member


@contextmanager
def open_source(source: Path) -> Iterator[Path]:
    """Yield a file or a folder as it is, and an archive as a temporary folder with its files.

    In errors of the block the archive has its own name.

    Args:
        source: The file, folder or archive.
    Raises:
        DataError: See `iter_members`; or two members are one file.
        MachineError: The disk is full or refuses to be written.
    """
    if find_kind(source) is None:
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="atrous-") as name:
        folder = Path(name)
        for member in iter_members(source):
            target = folder / member.name
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("xb") as file:
                    member.copy_to(file)
            except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
                raise _refuse(source, member.name, "occurs twice") from error
            except OSError as error:
                raise describe_write_error(error, target) from error
        try:
            yield folder
        except AtrousError as error:
            error.message = error.message.replace(name, str(source))
            raise


def _iter_folder(source: Path) -> Iterator[Member]:
    seen: set[tuple[int, int]] = set()
    for walked, folders, names in os.walk(source, followlinks=True):
        status = os.stat(walked)
        if (status.st_dev, status.st_ino) in seen:  # a link to a folder that was there already
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(walked, name)
            if not name.startswith(".") and path.is_file():
                inside = path.relative_to(source).as_posix()
                yield Member(source, inside, path.stat().st_size, partial(_open_file, path))


def _open_file(path: Path) -> IO[bytes]:
    return path.open("rb")


def _iter_zip(source: Path) -> Iterator[Member]:
    with _explain_damage(source):
        archive = zipfile.ZipFile(source)
    with archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            mode = info.external_attr >> 16
            if mode and (mode & 0o170000) not in (0, 0o100000):
                raise _refuse(source, info.filename, "is a link or a device")
            if info.flag_bits & 1:
                raise DataError(f"{source}: {info.filename!r} is encrypted", "Unpack it, and give the folder.")
            yield Member(source, _normalise(source, info.filename), info.file_size, partial(archive.open, info))


def _iter_tar(source: Path) -> Iterator[Member]:
    is_compressed = find_kind(source) == "tar.gz"
    with source.open("rb") as raw:
        stream = _BoundedReader(cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if is_compressed else raw)
        with _explain_damage(source):
            archive = tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r:")
        with archive:
            while True:
                with _explain_damage(source):
                    info = archive.next()
                if info is None:
                    return
                archive.members = []  # type: ignore[attr-defined]  # it would keep all of them
                if info.isdir():
                    continue
                if not info.isfile() or info.sparse is not None or info.size < 0:
                    raise _refuse(source, info.name, "is a link, a device or a file with holes")
                name = _normalise(source, info.name)
                yield Member(source, name, info.size, partial(_open_tar_member, archive, info))


def _open_tar_member(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    stream = archive.extractfile(info)
    if stream is None:
        raise EOFError("no content")
    return stream


class _BoundedReader:
    """A stream for tarfile that refuses to read much at once, as a header can ask for."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _HEADER_BYTES:
            raise ValueError(f"a header of {size:,} bytes")
        return self._stream.read(size)


def _normalise(source: Path, name: str) -> str:
    """Return the path of a member without "./"; on no system may it lead out of the archive."""
    path = PureWindowsPath(name)  # it knows "/" too
    if path.anchor or ".." in path.parts:
        raise _refuse(source, name, "leads out of it")
    return PurePosixPath(name).as_posix()


def _refuse(source: Path, name: str, reason: str) -> DataError:
    return DataError(f"{source}: the member {name!r} {reason}", "Download the archive again from its own site.")


@contextmanager
def _explain_damage(place: Path | str) -> Iterator[None]:
    """Turn whatever is wrong with an archive or a file into one kind of error.

    Args:
        place: The archive, or what is read in it.
    Raises:
        DataError: It is damaged, or cannot be read.
        MachineError: The memory is full.
    """
    try:
        yield
    except AtrousError:
        raise
    except (*_BROKEN, OSError) as error:
        raise_shortage(error)
        is_refused = isinstance(error, OSError) and not isinstance(error, gzip.BadGzipFile)
        reason = f"{'cannot be read' if is_refused else 'damaged or cut off'}: {describe_reason(error)}"
        hint = "Check its permissions." if is_refused else "Download it again, or copy it again."
        raise DataError(f"{place}: {reason}", hint) from error
