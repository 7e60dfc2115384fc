"""Table 5: the parts of atrous spatial pyramid pooling."""

from __future__ import annotations

from atrous.studies.study import Base, Claim, Row, Study

FOUR_RATES = (6, 12, 18, 24)
PLAIN, MIDDLE, WIDE = ("three rates, multi-grid (1, 1, 1)", "multi-grid (1, 2, 1)", "multi-grid (1, 2, 4)")
FOURTH, POOLED = "and a fourth rate", "three rates and image pooling"


def build_study(base: Base) -> Study:
    """Return the study on a base's backbone.

    Source: Chen et al. 2017 (arXiv 1706.05587), Table 5.
    """
    rows = (
        Row(PLAIN, base.build_aspp((1, 1, 1), image_features=False), paper_miou=75.36),
        Row(MIDDLE, base.build_aspp((1, 2, 1), image_features=False), paper_miou=75.93),
        Row(WIDE, base.build_aspp((1, 2, 4), image_features=False), paper_miou=76.58),
        Row(FOURTH, base.build_aspp(rates=FOUR_RATES, image_features=False), paper_miou=76.46),
        Row(POOLED, base.build_aspp(), paper_miou=77.21),
    )
    control = WIDE if base.has_multi_grid else PLAIN
    return Study(
        name="table5",
        title="Atrous spatial pyramid pooling",
        protocol="ResNet-101, trained and scored at output stride 16, VOC 2012 val; the last two with (1, 2, 4).",
        rows=rows,
        claims=(
            Claim("multi-grid (1, 2, 1) beats (1, 1, 1)", MIDDLE, PLAIN),
            Claim("multi-grid (1, 2, 4) beats (1, 2, 1)", WIDE, MIDDLE),
            Claim("a fourth rate does not help", control, FOURTH),
            Claim("image pooling helps", POOLED, control),
        ),
        notes=() if base.has_multi_grid else ("the last two rows use multi-grid (1, 1, 1)",),
    )
