"""What is in a folder: images, masks, what pairs and what does not. Taking an inventory never raises."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from atrous.images.decode import IMAGE_SUFFIXES


@dataclass(frozen=True)
class Pair:
    """The file of an image and the file of its mask.

    Args:
        key: Path without suffix that both share, such as "train/a/photo".
        image: The image file.
        mask: The mask file.
    """

    key: str
    image: Path
    mask: Path


@dataclass(frozen=True)
class FolderListing:
    """The files in a folder and its sub-folders.

    Args:
        folder: The folder.
        files: Files with the suffix of an image, by their path without suffix; several if they differ in suffix.
        hidden: Files and folders whose name begins with a dot; they are skipped.
        foreign: Other files, which have no suffix of an image.
        links: Links to folders, which are not followed, and links to nothing.
        special: Pipes, sockets and devices with the suffix of an image; opening one can block.
        unlisted: Folders that cannot be listed, with the reason.
    """

    folder: Path
    files: Mapping[str, tuple[Path, ...]]
    hidden: tuple[Path, ...] = ()
    foreign: tuple[Path, ...] = ()
    links: tuple[Path, ...] = ()
    special: tuple[Path, ...] = ()
    unlisted: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inventory:
    """A folder of images beside a folder of masks.

    Args:
        prefix: What the keys of the pairs begin with, such as "train/".
        images: The folder of images.
        masks: The folder of masks.
    """

    prefix: str
    images: FolderListing
    masks: FolderListing

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Images and masks with the same path up to the suffix, sorted by key."""
        images, masks = self.images.files, self.masks.files
        return tuple(
            Pair(self.prefix + key, images[key][0], masks[key][0]) for key in sorted(images.keys() & masks.keys())
        )

    @property
    def images_without_mask(self) -> list[Path]:
        """Images that no mask belongs to, sorted."""
        return sorted(self.images.files[key][0] for key in self.images.files.keys() - self.masks.files.keys())

    @property
    def masks_without_image(self) -> list[Path]:
        """Masks that no image belongs to, sorted."""
        return sorted(self.masks.files[key][0] for key in self.masks.files.keys() - self.images.files.keys())


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


def take_inventory(folders: Sequence[tuple[str, Path, Path]]) -> tuple[Inventory, ...]:
    """List folders of images and of masks; they need not exist.

    Args:
        folders: For each split: what its keys begin with (such as "train/"), its folder of images, that of masks.
    """
    return tuple(Inventory(prefix, list_folder(images), list_folder(masks)) for prefix, images, masks in folders)


def list_folder(folder: Path) -> FolderListing:
    """List the files in a folder and its sub-folders; a folder that cannot be listed is recorded."""
    files: dict[str, list[Path]] = {}
    hidden: list[Path] = []
    foreign: list[Path] = []
    links: list[Path] = []
    special: list[Path] = []
    errors: list[OSError] = []
    for place, folders, names in os.walk(folder, onerror=errors.append):
        for name in sorted(folders):
            path = Path(place, name)
            if name.startswith("."):
                hidden.append(path)
            elif path.is_symlink():
                links.append(path)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(place, name)
            if name.startswith("."):
                hidden.append(path)
            elif path.is_symlink() and not path.exists():
                links.append(path)
            elif path.suffix.lower() in IMAGE_SUFFIXES and not path.is_file():
                special.append(path)
            elif path.suffix.lower() in IMAGE_SUFFIXES:
                files.setdefault(path.relative_to(folder).with_suffix("").as_posix(), []).append(path)
            else:
                foreign.append(path)
    unlisted = tuple(f"{error.filename}: {error.strerror}" for error in errors)
    return FolderListing(
        folder,
        {key: tuple(paths) for key, paths in files.items()},
        tuple(hidden),
        tuple(foreign),
        tuple(links),
        tuple(special),
        unlisted,
    )
