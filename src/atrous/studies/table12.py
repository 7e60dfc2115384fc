"""Table 12: the inference ladder on street scenes."""

from __future__ import annotations

from atrous.studies.ladder import build_ladder
from atrous.studies.study import Base, Study


def build_study(base: Base) -> Study:
    """Return the study on a base's backbone.

    Source: Chen et al. 2017 (arXiv 1706.05587), Table 12.
    """
    return build_ladder(
        "table12",
        title="Inference on street scenes",
        protocol="ResNet-101, multi-grid (1, 2, 4), image pooling, crop 769, output stride 16, Cityscapes val.",
        settings=base.build_aspp(),
        scales=(0.75, 1.0, 1.25),
        paper_mious=(77.23, 77.82, 79.06, 79.30),
        notes=("this study is meant for street scenes: use `data=cityscapes` or camvid",),
    )
