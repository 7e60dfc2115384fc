"""Files that are made of the labels in a folder of predictions, whenever these were written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from atrous.core.records import ProgressCallback
from atrous.inference.folders.inputs import ImageFile


@dataclass(frozen=True)
class LabelledFile:
    """An image with the file of its labels.

    Args:
        image: The image.
        labels: The file.
    """

    image: ImageFile
    labels: Path


@dataclass(frozen=True)
class DerivedFiles:
    """Files made of labels.

    Args:
        name: What they are, for messages.
        names: Their names, below the folder.
        save: Writes them, given the images that have labels, the folder, and what receives the progress.
        takes_huge: Whether the labels may be those of an image larger than memory.
    """

    name: str
    names: list[str]
    save: Callable[[Sequence[LabelledFile], Path, ProgressCallback | None], None]
    takes_huge: bool = False
