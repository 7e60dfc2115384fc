"""What is in a folder: images, masks, what pairs and what does not. Taking an inventory never raises."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePath
from typing import Literal

from atrous.core.walking import walk_folder
from atrous.images.decode import IMAGE_SUFFIXES
from atrous.images.windows import Window

Unlabelled = Literal["error", "background", "ignore"]


@dataclass(frozen=True, slots=True)
class Pair:
    """The file of an image and the file of its mask. Both are text: a `Path` takes four times the memory.

    Args:
        key: Path without suffix that both share, such as "train/a/photo".
        image: The image file.
        mask: The mask file; None if every pixel is background.
        window: The part of both that is meant, of a raster that is larger than memory; its label ends the key.
    """

    key: str
    image: str
    mask: str | None
    window: Window | None = None

    @property
    def file_key(self) -> str:
        """Return the key of the pair of whole files."""
        return self.key if self.window is None else self.key.removesuffix(self.window.label)


@dataclass(frozen=True)
class Exclusion:
    """Files that the user leaves out.

    A pattern is the end of a path inside the data, that of a file or of a folder with everything in it; `*`, `?` and
    `[...]` match within one name. "photo.jpg" is a file of this name in any folder, "old/*" what is in any folder old.

    Args:
        root: The folder of the data.
        patterns: The patterns.
    """

    root: Path
    patterns: tuple[str, ...] = ()

    def find_pattern(self, file: str | Path) -> str | None:
        """Return the first pattern that leaves out a file; None if it stays."""
        if not self.patterns:
            return None
        path = Path(file)
        inside = PurePath(path.relative_to(self.root)) if path.is_relative_to(self.root) else PurePath(path)
        ends = [inside, *inside.parents[:-1]]
        return next((pattern for pattern in self.patterns if any(end.match(pattern) for end in ends)), None)


STEM = "{stem}"
"""In a pattern: what an image and its mask have in common, sub-folders included."""


@dataclass(frozen=True)
class FileSet:
    """Files of a folder and its sub-folders by their names.

    Args:
        folder: The folder.
        pattern: Form of their paths in it, such as "{stem}_mask.png": without a suffix any will do, `*` and `?` match
            within one name, `**` across folders. Empty for every file.
        but_not: Form of paths that are not in the set, such as those of masks in the same folder; empty for none.
    """

    folder: Path
    pattern: str = ""
    but_not: str = ""

    @classmethod
    def parse(cls, root: Path, text: str) -> FileSet:
        """Return the files of a folder, a glob or a template with {stem}.

        Args:
            root: The folder that the text is relative to.
            text: Such as "images/", "photos/*.jpg" or "labels/{stem}_mask.png".
        """
        folder, parts = root, PurePath(text).parts
        for number, part in enumerate(parts):
            if set("*?{") & set(part) and not (folder / part).is_dir():  # a folder may be called "who?"
                return cls(folder, "/".join(parts[number:]))
            folder = folder / part
        return cls(folder)

    def __str__(self) -> str:
        return f"{self.folder.name}/{self.pattern}"

    def find_key(self, inside: str) -> str | None:
        """Return what a file shares with its partner; None if it has another form.

        Args:
            inside: Path of the file in the folder.
        """
        if self._others is not None and self._others.find_key(inside) is not None:
            return None
        found = self._expression.fullmatch(inside) if self.pattern else None
        if self.pattern and found is None:
            return None
        return found["stem"] if found and STEM in self.pattern else os.path.splitext(inside)[0]

    @cached_property
    def _others(self) -> FileSet | None:
        return FileSet(self.folder, self.but_not) if self.but_not else None

    @cached_property
    def _expression(self) -> re.Pattern[str]:
        parts = re.split(rf"({re.escape(STEM)}|\*\*/|\*\*|\*|\?)", self.pattern)
        form = "".join(_WILDCARDS.get(part) or re.escape(part) for part in parts)
        first, stem, rest = form.partition(_WILDCARDS[STEM])
        form = first + stem + rest.replace(_WILDCARDS[STEM], "(?P=stem)")
        has_suffix = PurePath(self.pattern.replace(STEM, "stem")).suffix.lower() in {*IMAGE_SUFFIXES, ".*"}
        return re.compile(form if has_suffix else rf"{form}\.[^./]+")


_WILDCARDS = {STEM: "(?P<stem>.+)", "**/": "(?:.+/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}

KEEP_ALL = Exclusion(Path())
"""Nothing is excluded."""


@dataclass(frozen=True)
class FolderListing:
    """The files in a folder and its sub-folders.

    Args:
        folder: The folder.
        files: Files with the suffix of an image, by what they share with their partner: their path without suffix, or
            the stem of a pattern.
        doubled: All files of each name that has several, which differ in their suffix; the first is in `files`.
        unmatched: Files with the suffix of an image whose names have another form than the pattern; they are skipped.
        hidden: Files and folders whose name begins with a dot; they are skipped.
        foreign: Other files, which have no suffix of an image.
        followed: Links to folders, which are followed.
        links: Links to nothing, and to folders that are listed anyway or hold the link; they are skipped.
        special: Pipes, sockets and devices with the suffix of an image; opening one can block.
        unlisted: Folders that cannot be listed, with the reason.
        excluded: Files with the suffix of an image that the user excluded, likewise.
    """

    folder: Path
    files: Mapping[str, str]
    doubled: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unmatched: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    followed: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    special: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()
    excluded: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def all_files(self) -> Iterator[str]:
        """Every file with the suffix of an image, those of one name after each other."""
        for key, file in self.files.items():
            yield from self.doubled.get(key, (file,))

    def keep(self, is_kept: Callable[[str], bool]) -> FolderListing:
        """Return the listing with the files of some keys alone.

        Args:
            is_kept: Says of a key whether it stays.
        """
        files = {key: file for key, file in self.files.items() if is_kept(key)}
        doubled = {key: files for key, files in self.doubled.items() if is_kept(key)}
        excluded = {key: files for key, files in self.excluded.items() if is_kept(key)}
        return replace(self, files=files, doubled=doubled, excluded=excluded)


@dataclass(frozen=True)
class Inventory:
    """A folder of images beside a folder of masks.

    Args:
        images: The folder of images.
        masks: The folder of masks.
        exclusion: What the user excluded from both.
        unlabelled: What an image without a mask is: an error, background as a whole, or skipped (ignore).
    """

    images: FolderListing
    masks: FolderListing
    exclusion: Exclusion = KEEP_ALL
    unlabelled: Unlabelled = "error"

    def keep(self, start: str) -> Inventory:
        """Return the part whose keys have a start, such as "train/"."""
        images, masks = (listing.keep(lambda key: key.startswith(start)) for listing in (self.images, self.masks))
        return replace(self, images=images, masks=masks)

    @property
    def num_pairs(self) -> int:
        """How many pairs there are."""
        images, masks = self.images.files, self.masks.files
        return len(images) if self.unlabelled == "background" else sum(key in masks for key in images)

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Images and masks with the same name, sorted by key; with them images that are background as a whole."""
        images, masks = self.images.files, self.masks.files
        keys = images.keys() if self.unlabelled == "background" else images.keys() & masks.keys()
        return tuple(Pair(key, images[key], masks.get(key)) for key in sorted(keys))

    @property
    def images_without_mask(self) -> list[str]:
        """Images that no mask belongs to, sorted."""
        return sorted(self.images.files[key] for key in self.images.files.keys() - self.masks.files.keys())

    @property
    def masks_without_image(self) -> list[str]:
        """Masks that no image belongs to, sorted."""
        return sorted(self.masks.files[key] for key in self.masks.files.keys() - self.images.files.keys())


def find_root(path: Path, key: str) -> Path:
    """Return the folder in which a file has its key for a name, up to the suffix: "d/images" for "a/b".

    Args:
        path: The file of an image or a mask, such as d/images/a/b.png.
        key: Name of its pair; folders of the file that are not in it stay.
    """
    folder = path.parent
    for part in reversed(Path(key).parts[:-1]):
        if folder.name != part:
            break
        folder = folder.parent
    return folder


def take_inventory(
    folders: Sequence[tuple[str, Path | FileSet, Path | FileSet]], exclusion: Exclusion = KEEP_ALL
) -> tuple[Inventory, ...]:
    """List folders of images and of masks; they need not exist.

    Args:
        folders: For each split: what its keys begin with (such as "train/"), its images, its masks.
        exclusion: What is skipped. A file whose only partner is skipped is skipped with it.
    """
    inventories = []
    for prefix, *both in folders:
        keys: dict[str, str] = {}
        images, masks = (list_folder(folder, exclusion, prefix, keys) for folder in both)
        inventories.append(Inventory(_leave_out_partners(images, masks), _leave_out_partners(masks, images), exclusion))
    return tuple(inventories)


def _leave_out_partners(listing: FolderListing, other: FolderListing) -> FolderListing:
    alone = listing.files.keys() & (other.excluded.keys() - other.files.keys())
    if not alone:
        return listing
    moved = {key: (*listing.excluded.get(key, ()), *listing.doubled.get(key, (listing.files[key],))) for key in alone}
    return replace(listing.keep(lambda key: key not in alone), excluded={**listing.excluded, **moved})


def list_folder(
    place: Path | FileSet, exclusion: Exclusion = KEEP_ALL, prefix: str = "", keys: dict[str, str] | None = None
) -> FolderListing:
    """List the files in a folder and its sub-folders; a folder that cannot be listed is recorded.

    Args:
        place: The folder, or some of its files.
        exclusion: What is skipped.
        prefix: What all keys begin with.
        keys: Receives the keys; of one that is in it already no copy is made.
    """
    known = {} if keys is None else keys
    wanted = place if isinstance(place, FileSet) else FileSet(place)
    folder = wanted.folder
    files: dict[str, str] = {}
    doubled: dict[str, list[str]] = {}
    excluded: dict[str, list[str]] = {}
    unmatched: list[str] = []
    hidden: list[str] = []
    foreign: list[str] = []
    followed: list[str] = []
    links: list[str] = []
    special: list[str] = []
    errors: list[OSError] = []

    def add_link(path: Path, is_followed: bool) -> None:
        (followed if is_followed else links).append(str(path))

    for walked, folders, names in walk_folder(folder, on_link=add_link, on_error=errors.append):
        paths = (Path(walked), Path(walked).relative_to(folder))
        outer, inner = ("" if path == Path() else str(path) for path in paths)
        hidden += [os.path.join(outer, name) for name in folders if name.startswith(".")]
        for name in names:
            path = os.path.join(outer, name)
            is_image, is_file = os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES, os.path.isfile(path)
            if name.startswith("."):
                hidden.append(path)
            elif exclusion.find_pattern(path) is not None:
                if is_image and (key := wanted.find_key(os.path.join(inner, name))) is not None:
                    excluded.setdefault(prefix + key, []).append(path)
            elif not is_file and os.path.islink(path) and not os.path.exists(path):
                links.append(path)
            elif not is_image:
                foreign.append(path)
            elif not is_file:
                special.append(path)
            elif (key := wanted.find_key(os.path.join(inner, name))) is None:
                unmatched.append(path)
            elif (first := files.setdefault(known.setdefault(prefix + key, prefix + key), path)) != path:
                doubled.setdefault(prefix + key, [first]).append(path)
    return FolderListing(
        folder,
        files,
        {key: tuple(paths) for key, paths in doubled.items()},
        tuple(unmatched),
        tuple(hidden),
        tuple(foreign),
        tuple(followed),
        tuple(links),
        tuple(special),
        tuple(f"{error.filename}: {error.strerror}" for error in errors),
        {key: tuple(paths) for key, paths in excluded.items()},
    )
