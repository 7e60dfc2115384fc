"""Draw shapes.jpg, the image of the README, from a run on the data set `shapes`.

Usage:
    atrous demo
    python docs/images/draw_shapes.py runs/demo
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import atrous
from atrous.data.datasets.shapes import build_shapes
from atrous.images.encode import build_colour_table

COLUMNS = 4
CELL_PX = 193
GAP_PX = 6
LABEL_PX = 92
LEGEND_PX = 28


def draw_examples(run: Path, out: Path) -> None:
    """Write the first validation images of a run, one per column, with the mask and the prediction below each.

    Args:
        run: A run trained on `shapes`.
        out: The JPEG to write.
    """
    model = atrous.load(run)
    val = build_shapes(None).val
    colours = build_colour_table(val.label_space, 256)
    sheet = Image.new(
        "RGB", (LABEL_PX + COLUMNS * (CELL_PX + GAP_PX), 3 * (CELL_PX + GAP_PX) + LEGEND_PX), color="white"
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=15)
    for column in range(COLUMNS):
        sample = val.get(column)
        cells = (sample.image, colours[sample.labels], colours[model.predict(sample.image).labels])
        for row, cell in enumerate(cells):
            place = (LABEL_PX + column * (CELL_PX + GAP_PX), row * (CELL_PX + GAP_PX))
            method = Image.Resampling.LANCZOS if row == 0 else Image.Resampling.NEAREST
            sheet.paste(Image.fromarray(np.ascontiguousarray(cell)).resize((CELL_PX, CELL_PX), method), place)
    for row, name in enumerate(("image", "mask", "prediction")):
        draw.text((0, row * (CELL_PX + GAP_PX) + CELL_PX // 2 - 8), name, fill="black", font=font)
    left, top = LABEL_PX, 3 * (CELL_PX + GAP_PX) + 6
    for name, colour in zip(val.label_space.names, val.label_space.colours, strict=True):
        draw.rectangle((left, top, left + 15, top + 15), fill=tuple(colour), outline="black")
        draw.text((left + 21, top - 2), name, fill="black", font=font)
        left += 21 + int(font.getlength(name)) + 20
    sheet.save(out, quality=88)


if __name__ == "__main__":
    draw_examples(Path(sys.argv[1]), Path(__file__).with_name("shapes.jpg"))
