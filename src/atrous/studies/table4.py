"""Table 4: the inference ladder on the best cascade."""

from __future__ import annotations

from atrous.studies.ladder import VOC_SCALES, build_ladder
from atrous.studies.study import PLAIN_GRID, Base, Study


def build_study(base: Base) -> Study:
    """Return the study on a base's backbone.

    Source: Chen et al. 2017 (arXiv 1706.05587), Table 4.
    """
    return build_ladder(
        "table4",
        title="Inference with a cascade",
        protocol="ResNet-101 with block7 and multi-grid (1, 2, 1), trained at output stride 16, VOC 2012 val.",
        settings=base.build_cascade(3, (1, 2, 1) if base.has_multi_grid else PLAIN_GRID),
        scales=VOC_SCALES,
        paper_mious=(76.66, 78.05, 78.93, 79.35),
    )
