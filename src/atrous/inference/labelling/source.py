"""Images in memory as what is labelled."""

from __future__ import annotations

from torch import Tensor


class ArrayImage:
    """An image in memory as an `ImageSource`.

    Args:
        pixels: (C, H, W), see `Backend`.
    """

    def __init__(self, pixels: Tensor) -> None:
        self.height, self.width = pixels.shape[1:]
        self._pixels = pixels

    def read(self, rows: slice, columns: slice) -> Tensor:
        """Return a part of the image, without a copy.

        Args:
            rows: Rows of the image.
            columns: Columns of the image.
        Shapes:
            out (C, h, w), likewise.
        """
        return self._pixels[:, rows, columns]
