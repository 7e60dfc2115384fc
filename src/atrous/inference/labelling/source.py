"""Images as what is labelled: in memory or not, read a part at a time."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class ImageSource(Protocol):
    """An image, in memory or not, that is read a part at a time; `height` and `width` are in pixels."""

    height: int
    width: int

    def read(self, rows: slice, columns: slice) -> Tensor:
        """Return a part of the image; parts are read from top to bottom.

        Args:
            rows: Rows of the image.
            columns: Columns of the image.
        Shapes:
            out (3, h, w) RGB, uint8 or floats in [0, 1].
        """
        ...


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
