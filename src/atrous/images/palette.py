"""Tables of colours: labels and ids as images that people look at."""

from __future__ import annotations

import numpy as np

from atrous.core.labels import IGNORE_INDEX, VOID_COLOUR, LabelSpace


def build_colour_table(label_space: LabelSpace, length: int) -> np.ndarray:
    """Return the colour of each id; ids of no class have the colour of void.

    Args:
        label_space: The classes, their ids and colours.
        length: Number of ids, counted from 0.
    Shapes:
        out (N, 3) uint8, N = length.
    """
    table = np.full((length, 3), VOID_COLOUR, dtype=np.uint8)
    table[list(label_space.ids)] = np.array(label_space.colours, dtype=np.uint8).reshape(-1, 3)
    return table


def colour_labels(labels: np.ndarray, label_space: LabelSpace) -> np.ndarray:
    """Paint class indices in the colours of their classes, and ignored pixels in the colour of void.

    Args:
        labels: Class indices, `IGNORE_INDEX` where ignored.
        label_space: The classes and their colours.
    Shapes:
        in (H, W) uint16; out (H, W, 3) uint8.
    """
    table = np.array([*label_space.colours, VOID_COLOUR], dtype=np.uint8)
    return table[np.where(labels == IGNORE_INDEX, label_space.num_classes, labels)]
