"""Legends: coloured squares with the names of classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_GAP_PX, _LINE_PX, _SQUARE_PX = 8, 24, 16


def draw_legend(entries: Sequence[tuple[str, tuple[int, int, int]]], width: int) -> np.ndarray:
    """Draw a coloured square and a name for each entry, in as many lines as needed.

    Args:
        entries: Names and colours.
        width: Width of the legend in pixels.
    Shapes:
        out (H, W, 3) uint8, W = width.
    """
    font = ImageFont.load_default(size=14)
    places, x, y = [], _GAP_PX, 0
    for name, _ in entries:
        needed = 22 + int(font.getlength(name)) + 16
        if x > _GAP_PX and x + needed > width:
            x, y = _GAP_PX, y + _LINE_PX
        places.append((x, y))
        x += needed
    image = Image.new("RGB", (width, y + _LINE_PX + _GAP_PX), "white")
    draw = ImageDraw.Draw(image)
    for (name, colour), (left, top) in zip(entries, places, strict=True):
        draw.rectangle((left, top + 2, left + _SQUARE_PX, top + _SQUARE_PX + 2), fill=colour, outline="black")
        draw.text((left + 22, top + 1), name, fill="black", font=font)
    return np.asarray(image)
