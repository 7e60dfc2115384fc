"""A contact sheet of training samples: augmented images beside their labels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from atrous.core.labels import VOID_COLOUR, LabelSpace
from atrous.core.output_folder import require_replaceable
from atrous.data.samples import find_form
from atrous.data.sampling import Stream
from atrous.images.bands import stretch_bands
from atrous.images.encode import encode_png, read_png_text, save_encoded
from atrous.images.legend import draw_legend
from atrous.images.palette import colour_labels

PREVIEW_MARK = "preview of a training"
"""What a preview says of itself, so that only a preview is replaced by the next one."""
_COLUMNS, _CELL_PX, _GAP_PX = 4, 220, 8


def require_own(path: Path) -> None:
    """Refuse to replace a file that is no preview.

    Raises:
        UsageError: There is such a file.
    """
    require_replaceable([path], is_own=read_png_text(path) == PREVIEW_MARK, overwrite=None)


def save_preview(stream: Stream, label_space: LabelSpace, path: Path, count: int = 16) -> None:
    """Write the first samples of a stream as one PNG, with a legend of the classes below.

    Args:
        stream: The stream that a training reads.
        label_space: Names and colours of the classes.
        path: The file to write, which should end in .png.
        count: Number of samples shown.
    Raises:
        DataError: A file cannot be read.
        UsageError: There is a file of this name that is no preview.
    """
    require_own(path)
    pair_width = 2 * _CELL_PX + _GAP_PX // 2
    width = _COLUMNS * (pair_width + _GAP_PX) + _GAP_PX
    grid_height = -(-count // _COLUMNS) * (_CELL_PX + _GAP_PX) + _GAP_PX
    entries = [*zip(label_space.names, label_space.colours, strict=True), ("ignored", VOID_COLOUR)]
    legend = draw_legend(entries, width)
    sheet = np.full((grid_height + legend.shape[0], width, 3), 255, dtype=np.uint8)
    form = find_form(stream.dataset)
    for place in range(count):
        sample = stream.sample(place)
        row, column = divmod(place, _COLUMNS)
        top, left = _GAP_PX + row * (_CELL_PX + _GAP_PX), _GAP_PX + column * (pair_width + _GAP_PX)
        colours = colour_labels(sample.labels, label_space)
        image = stretch_bands(sample.image, form)
        for offset, cell, method in ((0, image, cv2.INTER_AREA), (1, colours, cv2.INTER_NEAREST_EXACT)):
            start = left + offset * (_CELL_PX + _GAP_PX // 2)
            small = cv2.resize(cell, (_CELL_PX, _CELL_PX), interpolation=method)
            sheet[top : top + _CELL_PX, start : start + _CELL_PX] = small
    sheet[grid_height:] = legend
    save_encoded(path, encode_png(sheet, text=PREVIEW_MARK))
