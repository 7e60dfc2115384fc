"""Images in memory as what is labelled."""

from __future__ import annotations

from torch import Tensor


class ArrayImage:
    """An image in memory as an `ImageSource`.

    Args:
        pixels: (3, H, W) RGB, uint8 or floats in [0, 1].
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
            out (3, h, w) RGB, uint8 or floats in [0, 1].
        """
        return self._pixels[:, rows, columns]
