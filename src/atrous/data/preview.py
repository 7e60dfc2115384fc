"""A contact sheet of training samples: augmented images beside their labels."""

from __future__ import annotations

from collections.abc import Sequence
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


def require_own(path: Path, mark: str = PREVIEW_MARK) -> None:
    """Refuse to replace a file that is no preview, or not of another kind that is named.

    Args:
        path: The file.
        mark: What files of this kind say of themselves.
    Raises:
        UsageError: There is such a file.
    """
    require_replaceable([path], is_own=read_png_text(path) == mark, overwrite=None)


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
    form = find_form(stream.dataset)
    samples = [stream.sample(place) for place in range(count)]
    groups = [(stretch_bands(sample.image, form), colour_labels(sample.labels, label_space)) for sample in samples]
    save_encoded(path, encode_png(draw_sheet(groups, label_space, columns=_COLUMNS), text=PREVIEW_MARK))


def draw_sheet(groups: Sequence[Sequence[np.ndarray]], label_space: LabelSpace, *, columns: int) -> np.ndarray:
    """Draw groups of images of one size in a grid, with a legend of the classes below.

    Args:
        groups: Images that are drawn next to each other, each (H, W, 3) uint8, the same number in each group. The first
            of a group is resized smoothly; the others are labels in colour.
        label_space: Names and colours of the classes.
        columns: Groups in a row.
    Shapes:
        out (H, W, 3) uint8.
    """
    step = _CELL_PX + _GAP_PX // 2
    group_width = len(groups[0]) * step - _GAP_PX // 2
    width = columns * (group_width + _GAP_PX) + _GAP_PX
    grid_height = -(-len(groups) // columns) * (_CELL_PX + _GAP_PX) + _GAP_PX
    entries = [*zip(label_space.names, label_space.colours, strict=True), ("ignored", VOID_COLOUR)]
    legend = draw_legend(entries, width)
    sheet = np.full((grid_height + legend.shape[0], width, 3), 255, dtype=np.uint8)
    for place, group in enumerate(groups):
        row, column = divmod(place, columns)
        top, left = _GAP_PX + row * (_CELL_PX + _GAP_PX), _GAP_PX + column * (group_width + _GAP_PX)
        for number, cell in enumerate(group):
            factor = _CELL_PX / max(cell.shape[:2])
            height, side = (max(round(length * factor), 1) for length in cell.shape[:2])
            method = cv2.INTER_NEAREST_EXACT if number else cv2.INTER_AREA
            start = left + number * step
            sheet[top : top + height, start : start + side] = cv2.resize(cell, (side, height), interpolation=method)
    sheet[grid_height:] = legend
    return sheet
