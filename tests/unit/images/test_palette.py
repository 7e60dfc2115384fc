from __future__ import annotations

import numpy as np

from atrous.core.labels import IGNORE_INDEX, VOID_COLOUR, LabelSpace
from atrous.images.palette import build_colour_table, colour_labels


def test_ignored_pixels_have_their_own_colour():
    space = LabelSpace(("a", "b"))
    coloured = colour_labels(np.array([[0, 1, IGNORE_INDEX]], np.uint16), space)
    assert [tuple(pixel) for pixel in coloured[0].tolist()] == [*space.colours, VOID_COLOUR]


def test_ids_of_no_class_are_void():
    space = LabelSpace(("a", "b"), ids=(2, 300), colours=((1, 2, 3), (4, 5, 6)))
    table = build_colour_table(space, 65536)
    assert table[2].tolist() == [1, 2, 3]
    assert table[300].tolist() == [4, 5, 6]
    assert (np.delete(table, (2, 300), axis=0) == VOID_COLOUR).all()
