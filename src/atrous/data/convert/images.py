"""Finding the image that an annotation means. What it calls the image is only compared with names, never opened."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from atrous.data.file_names import IMAGE_FOLDERS, MASK_FOLDERS
from atrous.data.inventory import list_folder

ANNOTATION_FOLDERS = frozenset({*MASK_FOLDERS, "segmentationclass", "labelled"})
"""Folders of masks and other annotations, in lower case."""
_IMAGE_FOLDERS = frozenset({*IMAGE_FOLDERS, "jpegimages"})


class ImageFinder:
    """The images in some folders, by the names that annotations have for them.

    Annotations hold absolute paths of other machines, paths with `..`, and backslashes. An image is found by as many of
    the last parts of such a path as agree, and only inside the folders.

    Args:
        roots: The folders, with their sub-folders.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self._keys: dict[Path, str] = {}
        self._by_name: dict[str, list[Path]] = {}
        self._by_stem: dict[str, list[Path]] = {}
        for root in roots:
            listing = list_folder(root)
            for key, file in listing.files.items():
                for path in map(Path, listing.doubled.get(key, (file,))):
                    if path not in self._keys:
                        self._keys[path] = key
                        self._by_name.setdefault(_normalise(path.name), []).append(path)
                        self._by_stem.setdefault(_normalise(path.stem), []).append(path)

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[Path]:
        return iter(self._keys)

    def get_key(self, path: Path) -> str:
        """Return the path of an image below its folder, without suffix."""
        return self._keys[path]

    def rate(self, path: Path, text: str) -> int:
        """Return how many of the last folders of an image agree with a path that means it.

        Args:
            path: The image.
            text: The path, with or without suffix.
        """
        folders = split_name(text)[:-1]
        return max(_count_agreeing(path, names) for names in (folders, _drop_roles(folders)))

    def find(self, text: str, beside: Path | None = None) -> list[Path]:
        """Return the images that a path may mean: one if it is clear, none if there is no such image.

        Args:
            text: The path as an annotation has it, or a link.
            beside: Folder of the annotation, whose images are preferred.
        """
        for name in (text, read_link(text)):
            parts = split_name(name)
            found = _choose(self._by_name.get(parts[-1], []), parts[:-1]) if parts else []
            if found:
                break
        if len(found) > 1 and beside is not None:
            found = [path for path in found if path.parent == beside] or found
        return found

    def find_by_stem(self, text: str, others: Collection[Path] = ()) -> list[Path]:
        """Return the images that a path without suffix may mean; a folder of annotations is one of images beside it.

        Args:
            text: The path.
            others: Files that are no images, such as masks.
        """
        parts = split_name(text)
        found = [path for path in self._by_stem.get(parts[-1], []) if path not in others] if parts else []
        return _choose(found, parts[:-1], _drop_roles(parts[:-1]))


def read_link(link: str) -> str:
    """Return the path in a link, without what is percent-encoded or follows it."""
    try:
        return unquote(urlsplit(link).path)
    except ValueError:
        return link


def join_name(folder: Path, text: str) -> str:
    """Return the path that a file means by a name: below its own folder, unless the name is absolute.

    Args:
        folder: Folder of the file.
        text: The name.
    """
    is_absolute = re.match(r"[\\/]|[A-Za-z]+:", text) is not None
    return text if is_absolute else os.path.normpath(folder / text.replace("\\", "/"))


def split_name(text: str) -> list[str]:
    """Return the folders and the name in a path of any system."""
    return [_normalise(part) for part in re.split(r"[\\/]+", text) if part not in ("", ".", "..")]


def _drop_roles(folders: Sequence[str]) -> list[str]:
    return [name for name in folders if name.lower() not in ANNOTATION_FOLDERS]


def _choose(paths: list[Path], *folders: Sequence[str]) -> list[Path]:
    """Return the paths whose last folders agree most with one of some lists of folders."""
    agreeing = [max(_count_agreeing(path, names) for names in folders) for path in paths]
    return [path for path, count in zip(paths, agreeing, strict=True) if count == max(agreeing)]


def _normalise(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _count_agreeing(path: Path, folders: Sequence[str]) -> int:
    """Return how many of the last folders of a file have the names of some folders."""
    own = [_normalise(part) for part in path.parent.parts]
    count = 0
    for mine, other in zip(reversed(own), reversed(folders), strict=False):
        if mine != other and (mine.lower() not in _IMAGE_FOLDERS or other.lower() not in ANNOTATION_FOLDERS):
            break
        count += 1
    return count
