"""Writing a data set as a folder of images and masks that `atrous train` reads: images/, masks/ and atrous.yaml."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from atrous.core.data_source import SETTINGS_NAME
from atrous.core.errors import UsageError
from atrous.core.files import atomic_path, save_text
from atrous.core.labels import LabelSpace
from atrous.core.output_folder import LOCK_NAME, hold_folder
from atrous.images.encode import save_encoded, save_index_image


class FolderWriter:
    """Writes pairs of an image and a mask; threads may share one.

    Images keep their bytes: they are copied, never encoded again, and not hard-linked either, since a program that
    edits one in place would change the original. Masks hold ids, with the colours of the classes as their palette.

    Args:
        folder: The folder, held by `open_folder_writer`.
        label_space: The classes, whose colours are the palette of the masks.
    """

    def __init__(self, folder: Path, label_space: LabelSpace) -> None:
        self._folder = folder
        self._label_space = label_space

    def write(self, key: str, image: Path | bytes, suffix: str, mask: np.ndarray) -> None:
        """Write a pair.

        Args:
            key: Its path without suffix, which no other pair has.
            image: The file of the image, or its bytes.
            suffix: Suffix of the image.
            mask: Ids.
        Shapes:
            mask (H, W) uint8 or uint16.
        Raises:
            MachineError: The disk is full or refuses to be written.
        """
        target = self._folder / "images" / f"{key}{suffix}"
        if isinstance(image, bytes):
            save_encoded(target, image)
        else:
            with atomic_path(target) as temporary:
                shutil.copyfile(image, temporary)
        save_index_image(self._folder / "masks" / f"{key}.png", mask, self._label_space)

    def write_settings(self, label_space: LabelSpace, origin: str) -> None:
        """Write the atrous.yaml, after all pairs.

        Args:
            label_space: The classes that it names.
            origin: Where the data are from, in one line.
        Raises:
            MachineError: The disk is full or refuses to be written.
        """
        save_text(self._folder / SETTINGS_NAME, describe_settings(label_space, origin))


@contextmanager
def open_folder_writer(folder: Path, label_space: LabelSpace) -> Iterator[FolderWriter]:
    """Hold an empty folder and yield what writes pairs into it.

    Args:
        folder: The folder; it must not exist, or be empty.
        label_space: The classes.
    Raises:
        UsageError: There are files in it, another process writes there, or no folder can have this name.
        MachineError: There is no permission to write there, or no space.
    """
    require_empty(folder)
    with hold_folder(folder):
        require_empty(folder)
        yield FolderWriter(folder, label_space)


def require_empty(folder: Path) -> None:
    """Refuse a folder with anything inside, so that no data are mixed.

    Raises:
        UsageError: The folder holds something.
    """
    if folder.is_dir() and any(path.name != LOCK_NAME for path in folder.iterdir()):
        raise UsageError(f"{folder} is not empty", "Choose another `out`, or remove the folder.")


def describe_settings(label_space: LabelSpace, origin: str) -> str:
    """Return the text of an atrous.yaml.

    Args:
        label_space: The classes.
        origin: Where the data are from, in one line.
    """
    names = zip(label_space.ids, label_space.names, strict=True)
    lines = [f"# {origin}", "data:", "  classes:"]
    lines += [f"    {number}: {json.dumps(name, ensure_ascii=not name.isprintable())}" for number, name in names]
    return "\n".join([*lines, f"  ignore: [{label_space.void_id}]", ""])
