"""Table 3: unit rates in the blocks of a cascade (multi-grid)."""

from __future__ import annotations

from atrous.studies.study import Base, Claim, Row, Study

PAPER_MIOU = {
    (1, 1, 1): (68.39, 73.21, 75.34, 75.76),
    (1, 2, 1): (70.23, 75.67, 76.09, 76.66),
    (1, 2, 3): (73.14, 75.78, 75.96, 76.11),
    (1, 2, 4): (73.45, 75.74, 75.85, 76.02),
    (2, 2, 2): (71.45, 74.30, 74.70, 74.62),
}
"""Each multi-grid with the cascade ending in block4, block5, block6, block7."""


def name_row(grid: tuple[int, ...], block: int) -> str:
    """Return the label of a row.

    Args:
        grid: Unit rates of each block.
        block: Number of the last block, 4 to 7.
    """
    return f"multi-grid {grid}, block{block}"


def build_study(base: Base) -> Study:
    """Return the study on a base's backbone.

    Source: Chen et al. 2017 (arXiv 1706.05587), Table 3.
    """
    rows = tuple(
        Row(name_row(grid, 4 + extra), base.build_cascade(extra, grid), paper_miou=miou)
        for grid, scores in PAPER_MIOU.items()
        for extra, miou in enumerate(scores)
    )
    plain = name_row((1, 1, 1), 7)
    claims = (
        *(
            Claim(f"(1, 2, 1) beats (1, 1, 1) at block{block}", name_row((1, 2, 1), block), name_row((1, 1, 1), block))
            for block in (4, 5, 6, 7)
        ),
        Claim("(1, 2, 4) beats (1, 1, 1) at block7", name_row((1, 2, 4), 7), plain),
        Claim("(2, 2, 2), which doubles all rates, is worse than (1, 1, 1) at block7", plain, name_row((2, 2, 2), 7)),
        Claim("with (1, 2, 1) block7 beats block4", name_row((1, 2, 1), 7), name_row((1, 2, 1), 4)),
    )
    return Study(
        name="table3",
        title="Multi-grid in a cascade",
        protocol="ResNet-101 ending in block4 to block7, output stride 16, VOC 2012 val.",
        rows=rows,
        claims=claims,
    )
