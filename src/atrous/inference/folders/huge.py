"""TIFFs larger than memory, labelled a row of windows at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from atrous.core.records import Progress, ProgressCallback
from atrous.images.tiff import save_label_tiff
from atrous.images.windows import RasterImage, open_raster
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
    with open_raster(path, labeller.form, keeps_rows=True) as image:
        height, width = image.tiff.height, image.tiff.width
        window = labeller.find_streamed_window(height, width)
        total = len(compute_starts(height, window)) * len(compute_starts(width, window))

        def tell(done: int) -> None:
            if progress is not None:
                progress(Progress(f"labelling {path.name}", done, total, f"windows of {window}"))

        source = _StreamedImage(image, tell)
        ids = labeller.iter_ids(source, window, min_confidence=min_confidence, find_missing=source.take_missing)
        may_lack = image.stored.nodata is not None or image.stored.has_mask or image.stored.dtype.startswith("float")
        void_id = labeller.label_space.void_id if may_lack else None
        save_label_tiff(target, ids, image.tiff, labeller.label_space if palette else None, void_id=void_id)
        tell(total)
        return height, width, window


@dataclass
class _StreamedImage:
    """An `ImageSource` over a TIFF that reports how many parts were read before each new one.

    It remembers where the parts lack data, until `take_missing` has passed them.
    """

    image: RasterImage
    tell: Callable[[int], None]
    num_read: int = 0
    _missing: list[tuple[slice, slice, np.ndarray]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.height, self.width = self.image.tiff.height, self.image.tiff.width

    def read(self, rows: slice, columns: slice) -> Tensor:
        self.tell(self.num_read)
        self.num_read += 1
        part, is_missing = self.image.read(rows, columns)
        if is_missing is not None:
            self._missing.append((rows, columns, is_missing))
        values = part if part.dtype == np.uint8 else part.astype(np.float32)
        return torch.from_numpy(values).permute(2, 0, 1)

    def take_missing(self, rows: slice) -> np.ndarray | None:
        """Return the pixels without data in some rows, (R, W) bool; None if there are none. Rows come in order."""
        found: np.ndarray | None = None
        for its_rows, columns, is_missing in self._missing:
            first, last = max(rows.start, its_rows.start), min(rows.stop, its_rows.stop)
            if first < last:
                found = np.zeros((rows.stop - rows.start, self.width), dtype=bool) if found is None else found
                part = is_missing[first - its_rows.start : last - its_rows.start]
                found[first - rows.start : last - rows.start, columns] |= part
        self._missing = [piece for piece in self._missing if piece[0].stop > rows.stop]
        return found
