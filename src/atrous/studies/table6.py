"""Table 6: the inference ladder on DeepLabv3."""

from __future__ import annotations

from atrous.studies.ladder import VOC_SCALES, build_ladder
from atrous.studies.study import Base, Study


def build_study(base: Base) -> Study:
    """Return the study on a base's backbone.

    Source: Chen et al. 2017 (arXiv 1706.05587), Table 6.
    """
    return build_ladder(
        "table6",
        title="Inference with atrous spatial pyramid pooling",
        protocol="ResNet-101, multi-grid (1, 2, 4), image pooling, trained at output stride 16, VOC 2012 val.",
        settings=base.build_aspp(),
        scales=VOC_SCALES,
        paper_mious=(77.21, 78.51, 79.45, 79.77),
        notes=("the paper's last row, 82.70 with additional training on COCO, is omitted",),
    )
