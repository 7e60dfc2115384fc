"""Table 6: what inference adds to DeepLabv3."""

from __future__ import annotations

from atrous.studies.ladder import build_claims, build_rows
from atrous.studies.study import Base, Study
from atrous.studies.table4 import SCALES


def build_study(base: Base) -> Study:
    """Return the study on a base's backbone.

    Source: Chen et al. 2017 (arXiv 1706.05587), Table 6.
    """
    return Study(
        name="table6",
        title="Inference with atrous spatial pyramid pooling",
        protocol="ResNet-101, multi-grid (1, 2, 4), image pooling, trained at output stride 16, VOC 2012 val.",
        rows=build_rows(base.build_aspp(), SCALES, (77.21, 78.51, 79.45, 79.77)),
        claims=build_claims(),
        notes=("the paper's last row, 82.70 after training on COCO too, is left out",),
    )
