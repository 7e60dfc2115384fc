"""Facts of files, kept on the disk between commands: a file that has not changed is decoded once.

The cache is a SQLite database, of which memory holds a few pages. Several processes may use it at once; rows that
cannot be read are ignored, and a file that is no database is replaced.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, TypeVar

import numpy as np
import xxhash

from atrous.core.cache_folder import find_cache_folder
from atrous.core.errors import DataError
from atrous.core.files import Stamp, read_stamp
from atrous.images.decode import ImageHeader, load_stored_mask
from atrous.images.place import TIFF_SUFFIXES, Place, read_place
from atrous.images.samples import inspect_image
from atrous.images.stored_values import StoredMask
from atrous.images.traits import ImageTraits
from atrous.images.windows import Window, inspect_window, load_mask_window

MOST_FACTS = 5_000_000
"""Facts that are remembered; those that were written first are dropped."""
MOST_NEW = 10_000
"""Facts that are written together."""
MOST_SHARED = 10_000
"""Headers, sizes and tables of colours of which there is one object."""
MAX_IDS = 1000
"""Masks with more ids are not remembered: they are images, and their line would be long."""
FEWEST_BLENDED = 5
"""Ids of a mask in which blends can be told from classes: two classes, and three blends of them."""
MOST_BYTES = 2**26
"""Bytes of a file that is read as a whole, once for its facts and its hash; a larger one is read twice, in parts."""
SETTLED_S = 2.0
"""Files younger than this are not remembered: a second change within the clock's resolution would go unnoticed."""

Shared = TypeVar("Shared")

NOTHING: Mapping[int, int] = MappingProxyType({})
"""No numbers: one object for all masks, of which there may be a million."""

_NAME = "facts-11.sqlite"
_TABLE = "CREATE TABLE IF NOT EXISTS facts (folder BLOB, name BLOB, kind TEXT, row TEXT, UNIQUE (folder, name, kind))"
_READ = "SELECT row FROM facts WHERE folder = ? AND name = ? AND kind = ?"
_READ_ANY = "SELECT 1 FROM facts WHERE folder = ? LIMIT 1"
_WRITE = "INSERT OR REPLACE INTO facts VALUES (?, ?, ?, ?)"
_DROP = "DELETE FROM facts WHERE rowid <= (SELECT max(rowid) FROM facts) - ?"
_Key = tuple[bytes, bytes, str]
"""A digest of the absolute folder of a file, its name, and the kind of the facts."""


@dataclass(frozen=True, slots=True)
class MaskFacts:
    """What one mask holds.

    Args:
        size: Height and width in pixels.
        counts: Pixels by the numbers in the file, or by id.
        mode: Pillow's mode of the file, such as "P"; empty if the mask is no file.
        solid: Pixels, by the same numbers, whose right and lower neighbours have the same number; empty of a mask with
            few numbers.
        colours: The colour of each number in the palette, red * 65536 + green * 256 + blue; empty without a palette.
        palette: A hash of the whole palette; empty without one.
        place: Where it is on the Earth, as `Place.to_numbers` says; empty if it does not say.
        digest: A hash of the file, or of the ids of a mask that is no file.
    """

    size: tuple[int, int]
    counts: dict[int, int]
    mode: str = ""
    solid: Mapping[int, int] = field(default_factory=lambda: NOTHING)
    colours: Mapping[int, int] = field(default_factory=lambda: NOTHING)
    palette: str = ""
    place: tuple[float, ...] = ()
    digest: str = ""


def count_ids(mask: np.ndarray) -> tuple[tuple[int, int], dict[int, int]]:
    """Return the size of a mask (H, W) and the pixels of each id in it."""
    if mask.dtype in (np.uint8, np.uint16) and mask.size:
        flat = mask.ravel()  # runs of one id are counted: there are far fewer than pixels
        ends = np.concatenate(([-1], np.flatnonzero(flat[1:] != flat[:-1]), [flat.size - 1]))
        sums = np.bincount(flat[ends[1:]], weights=ends[1:] - ends[:-1])  # exact: floats up to 2**53
        ids = np.flatnonzero(sums)
        counts = sums[ids].astype(np.int64)
    else:
        ids, counts = np.unique(mask, return_counts=True)
    return (mask.shape[0], mask.shape[1]), dict(zip(ids.tolist(), counts.tolist(), strict=True))


def count_solid(mask: np.ndarray) -> dict[int, int]:
    """Count the pixels of each id in a mask (H, W) whose right and lower neighbours have the same id."""
    own = mask[:-1, :-1]
    return count_ids(own[(own == mask[1:, :-1]) & (own == mask[:-1, 1:])][None])[1]


def join_masks(parts: Sequence[MaskFacts], size: tuple[int, int]) -> MaskFacts | None:
    """Return what some parts of a mask hold together; None of no part.

    Args:
        parts: The parts.
        size: Height and width of the whole mask, which may have other parts.
    """
    if not parts:
        return None
    counts: dict[int, int] = {}
    solid: dict[int, int] = {}
    for part in parts:
        for total, numbers in ((counts, part.counts), (solid, part.solid)):
            for number, pixels in numbers.items():
                total[number] = total.get(number, 0) + pixels
    colours = {number: colour for part in parts for number, colour in part.colours.items()}
    digest = " ".join(part.digest for part in parts)
    return replace(
        parts[0], size=size, counts=dict(sorted(counts.items())), solid=solid, colours=colours, digest=digest
    )


class FactsCache:
    """Reads facts of files, from the cache where the path, size and times of change of a file are those of before.

    Used in a `with` block, whose end writes what is new. It may be called from several threads. Nothing that goes wrong
    with the cache itself stops the caller.

    Args:
        folder: Where the cache is. Default: `find_cache_folder()`.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or find_cache_folder()
        self._database = _open_database(self._folder)
        self._new: dict[_Key, str] = {}
        self._folders: dict[str, bytes] = {}
        self._unknown: set[bytes] = set()
        self._shared: dict[Hashable, Any] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> FactsCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.save()
        self._database.close()

    def read_mask_colours(self, path: Path, window: Window | None = None) -> MaskFacts:
        """Return the colours in a mask, each as the number red * 65536 + green * 256 + blue.

        Args:
            path: The file.
            window: The part of it to read. Default: the whole.
        Raises:
            DataError: The file cannot be read as colours.
        """
        return self._read_mask(path, "colours", window)

    def read_mask(self, path: Path, window: Window | None = None) -> MaskFacts:
        """Return the numbers in a mask.

        Args:
            path: The file.
            window: The part of it to read. Default: the whole.
        Raises:
            DataError: The file cannot be read as a mask.
        """
        return self._read_mask(path, "mask", window)

    def _read_mask(self, path: Path, about: str, window: Window | None) -> MaskFacts:
        stamp, kind = _require_stamp(path), _name_kind(about, window)
        with contextlib.suppress(TypeError, ValueError, OverflowError):  # a line of another form
            return self._share_parts(_parse_mask(self._find(kind, path, stamp)))
        in_colours = about == "colours"
        if window is None:
            content = _read_content(path, stamp)
            stored = load_stored_mask(path, content=content, in_colours=in_colours)
        else:
            content, stored = None, load_mask_window(path, window, in_colours=in_colours)
        place = read_place(path) if path.suffix.lower() in TIFF_SUFFIXES else None
        facts = _describe_mask(stored, place, self._compute_digest(path, window, content))
        if len(facts.counts) <= MAX_IDS:
            tables = [[list(row) for row in table.items()] for table in (facts.counts, facts.solid, facts.colours)]
            row = [list(facts.size), facts.mode, *tables, facts.palette, list(facts.place), facts.digest]
            self._remember(kind, path, stamp, row)
        return self._share_parts(facts)

    def read_image(self, path: Path, window: Window | None = None) -> tuple[ImageHeader, ImageTraits, str]:
        """Return header, traits and hash of an image, which has been decoded as a whole: it is neither cut nor damaged.

        Args:
            path: The file.
            window: The part of it that is an image of its own. Default: the whole.
        Raises:
            DataError: The file is not an image, or is truncated or damaged.
        """
        stamp, kind = _require_stamp(path), _name_kind("image", window)
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            height, width, mode, is_turned, traits, digest = self._find(kind, path, stamp)
            header = ImageHeader(int(height), int(width), sys.intern(str(mode)), bool(is_turned))
            return self._share(header, header), ImageTraits.from_json(traits), str(digest)
        if window is None:
            content = _read_content(path, stamp)
            header, traits = inspect_image(path, content=content)
        else:
            content, (header, traits) = None, inspect_window(path, window)
        digest = self._compute_digest(path, window, content)
        facts = [header.height, header.width, header.mode, header.is_turned, traits.to_json(), digest]
        self._remember(kind, path, stamp, facts)
        return self._share(header, header), traits, digest

    def _share_parts(self, facts: MaskFacts) -> MaskFacts:
        size, colours = self._share(facts.size, facts.size), self._share((*facts.colours.items(),), facts.colours)
        return replace(facts, size=size, colours=colours)

    def _share(self, key: Hashable, value: Shared) -> Shared:
        """Return one object for all that are equal, of which a data set may have a million."""
        shared: Shared = self._shared.get(key, value)
        if len(self._shared) < MOST_SHARED:
            self._shared[key] = shared
        return shared

    def read_digest(self, path: Path, window: Window | None = None) -> str:
        """Return a hash of a file, in hexadecimal; of a part of one, with what tells it from the other parts.

        Args:
            path: The file.
            window: The part. Default: the whole.
        Raises:
            DataError: The file cannot be read.
        """
        part = "" if window is None else window.label
        stamp = _require_stamp(path)
        known = self._find("digest", path, stamp)
        if isinstance(known, str):
            return known + part
        try:
            digest = _hash_file(path)
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error
        self._remember("digest", path, stamp, digest)
        return digest + part

    def _compute_digest(self, path: Path, window: Window | None, content: bytes | None) -> str:
        """Return what `read_digest` does, of the content of the file where that has been read."""
        return self.read_digest(path, window) if content is None else xxhash.xxh3_128_hexdigest(content)

    def save(self) -> None:
        """Write what is new; a disk that is full or read-only is no error, and a damaged cache is removed."""
        with self._lock, contextlib.suppress(OSError):
            new, self._new = self._new, {}
            try:
                with self._database:
                    self._database.executemany(_WRITE, ((*key, row) for key, row in new.items()))
                    self._database.execute(_DROP, [MOST_FACTS])
            except sqlite3.OperationalError:
                pass
            except sqlite3.DatabaseError:
                if self._folder is not None:
                    (self._folder / _NAME).unlink()

    def _find(self, kind: str, path: Path, stamp: Stamp) -> Any:
        """Return the remembered facts of a file; None if it is unknown or has changed."""
        key = self._make_key(kind, path)
        with self._lock, contextlib.suppress(sqlite3.Error, ValueError, TypeError, RecursionError):
            row = self._new.get(key)
            if row is None and key[0] not in self._unknown:
                row = next(iter(self._database.execute(_READ, key).fetchall()), (None,))[0]
            if row is not None:
                known, facts = json.loads(row)
                return facts if known == stamp else None
        return None

    def _remember(self, kind: str, path: Path, stamp: Stamp, facts: list[Any] | str) -> None:
        if time.time_ns() - stamp[1] < SETTLED_S * 1e9:
            return
        key, row = self._make_key(kind, path), json.dumps([stamp, facts], separators=(",", ":"))
        with self._lock:
            self._new[key] = row
            is_full = len(self._new) >= MOST_NEW
        if is_full:
            self.save()

    def _make_key(self, kind: str, path: Path) -> _Key:
        parent, name = os.path.split(path)  # pathlib would take longer than the rest
        if parent not in self._folders:
            folder = hashlib.sha256(os.fsencode(os.path.abspath(parent))).digest()[:16]
            with self._lock, contextlib.suppress(sqlite3.Error):
                if not self._database.execute(_READ_ANY, [folder]).fetchall():
                    self._unknown.add(folder)  # a first check, which reads each file once, need not look for them
            self._folders[parent] = folder
        return self._folders[parent], os.fsencode(name), kind


def _open_database(folder: Path | None) -> sqlite3.Connection:
    """Open the cache in a folder; where that is not possible, one that ends with this process."""
    if folder is not None:
        with contextlib.suppress(OSError, sqlite3.OperationalError):  # no permission, or a disk that is full
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / _NAME
            try:
                return _connect(path)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError:  # no database
                path.unlink()
                return _connect(path)
    return _connect("")


def _connect(path: Path | str) -> sqlite3.Connection:
    if path:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    database = sqlite3.connect(path, check_same_thread=False)  # of the threads one calls it at a time
    database.execute(_TABLE)
    return database


def _name_kind(about: str, window: Window | None) -> str:
    """Return the kind of some facts: of each window of a file they are of a kind of their own."""
    return about if window is None else f"{about} {window.height}x{window.width}{window.label}"


def _require_stamp(path: Path) -> Stamp:
    stamp = read_stamp(path)
    if stamp is None:
        raise DataError(f"{path}: no such file")
    return stamp


def _read_content(path: Path, stamp: Stamp) -> bytes | None:
    """Read a file once, for its facts and for its hash; None of a file that is large or cannot be read."""
    try:
        return path.read_bytes() if stamp[0] <= MOST_BYTES else None
    except OSError:
        return None  # who opens it says what is wrong


def _hash_file(path: Path) -> str:
    """Return the XXH3 of a file, which takes a few per cent of the time of decoding it."""
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _describe_mask(mask: StoredMask, place: Place | None, digest: str) -> MaskFacts:
    size, counts = count_ids(mask.values)
    palette = mask.palette
    colours: Mapping[int, int] = {
        number: int.from_bytes(palette[3 * number : 3 * number + 3], "big")
        for number in counts
        if 0 <= 3 * number < len(palette)
    }
    return MaskFacts(
        size,
        counts,
        mask.mode,
        count_solid(mask.values) if len(counts) >= FEWEST_BLENDED else NOTHING,
        colours or NOTHING,
        sys.intern(xxhash.xxh3_64_hexdigest(palette)) if palette else "",
        () if place is None else place.to_numbers(),
        digest,
    )


def _parse_mask(facts: Any) -> MaskFacts:
    """Return the facts of a line.

    Raises:
        TypeError, ValueError, OverflowError: They have another form or contradict each other.
    """
    (height, width), mode, counts, solid, colours, palette, place, digest = facts
    pixels = {int(number): int(count) for number, count in counts}
    if min(pixels.values()) < 1 or sum(pixels.values()) != height * width:
        raise ValueError("the pixels of all ids are not those of the mask")
    inside, shown = (
        {int(number): int(value) for number, value in table} if table else NOTHING for table in (solid, colours)
    )
    return MaskFacts(
        (int(height), int(width)),
        pixels,
        sys.intern(str(mode)),
        inside,
        shown,
        sys.intern(str(palette)),
        tuple(map(float, place)),
        str(digest),
    )
