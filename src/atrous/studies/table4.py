"""Table 4: what inference adds to the best cascade."""

from __future__ import annotations

from atrous.studies.ladder import build_claims, build_rows
from atrous.studies.study import PLAIN_GRID, Base, Study

SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


def build_study(base: Base) -> Study:
    """Return the study on a base's backbone.

    Source: Chen et al. 2017 (arXiv 1706.05587), Table 4.
    """
    grid = (1, 2, 1) if base.has_multi_grid else PLAIN_GRID
    return Study(
        name="table4",
        title="Inference with a cascade",
        protocol="ResNet-101 with block7 and multi-grid (1, 2, 1), trained at output stride 16, VOC 2012 val.",
        rows=build_rows(base.build_cascade(3, grid), SCALES, (76.66, 78.05, 78.93, 79.35)),
        claims=build_claims(),
    )
