"""TIFFs larger than memory, labelled a row of windows at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from atrous.core.errors import DataError
from atrous.core.records import Progress, ProgressCallback
from atrous.images.tiff import TiffImage, save_label_tiff
from atrous.inference.labelling.labeller import Labeller
from atrous.inference.labelling.tiles import compute_starts


def label_tiff(
    labeller: Labeller,
    path: Path,
    target: Path,
    *,
    palette: bool = False,
    min_confidence: float = 0.0,
    progress: ProgressCallback | None = None,
) -> tuple[int, int, int]:
    """Label a TIFF in windows into a TIFF, of which no more than a few rows of tiles are ever in memory.

    Args:
        labeller: What labels.
        path: The image; of many pages the first one.
        target: The labels' file.
        palette: Whether the labels have the class colours as their palette; they are grey otherwise.
        min_confidence: Pixels below it, in [0, 1], get the id of void.
        progress: Receives the progress.
    Returns: Height, width and the window's side.
    Raises:
        DataError: The image is broken, or of a kind that is not read.
        MachineError: The memory does not suffice.
    """
    if not labeller.form.is_photo:
        raise DataError(
            f"{path}: is larger than memory, and the model takes {labeller.form.describe()}",
            "Cut it into smaller images: only RGB or grey of 8 or 16 bits is read in parts.",
        )
    with TiffImage(path) as image:
        window = labeller.find_streamed_window(image.height, image.width)
        total = len(compute_starts(image.height, window)) * len(compute_starts(image.width, window))

        def tell(done: int) -> None:
            if progress is not None:
                progress(Progress(f"labelling {path.name}", done, total, f"windows of {window}"))

        ids = labeller.iter_ids(_WatchedImage(image, tell), window, min_confidence=min_confidence)
        save_label_tiff(target, ids, image, labeller.label_space if palette else None)
        tell(total)
        return image.height, image.width, window


@dataclass
class _WatchedImage:
    """An `ImageSource` over a TIFF that reports how many parts were read before each new one."""

    image: TiffImage
    tell: Callable[[int], None]
    num_read: int = 0

    def __post_init__(self) -> None:
        self.height, self.width = self.image.height, self.image.width

    def read(self, rows: slice, columns: slice) -> Tensor:
        self.tell(self.num_read)
        self.num_read += 1
        return torch.from_numpy(self.image.read(rows, columns)).permute(2, 0, 1)
