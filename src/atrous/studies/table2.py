"""Table 2: blocks in cascade, on two backbones."""

from __future__ import annotations

from atrous.studies.study import Base, Claim, Row, Study

PAPER_MIOU = ((64.81, 72.14, 74.29, 73.88), (68.39, 73.21, 75.34, 75.76))
"""ResNet-50 and ResNet-101, each ending in block4, block5, block6, block7."""


def build_study(base: Base) -> Study:
    """Return the study on a base's backbone and the next deeper one.

    Source: Chen et al. 2017 (arXiv 1706.05587), Table 2.
    """
    backbones = tuple(dict.fromkeys((base.backbone, base.deeper)))
    rows, claims = [], []
    for backbone, scores in zip(backbones, PAPER_MIOU, strict=False):
        for extra_blocks, miou in enumerate(scores):
            settings = base.build_cascade(extra_blocks, backbone=backbone)
            rows.append(Row(f"{backbone}, block{4 + extra_blocks}", settings, paper_miou=miou))
        for block in (5, 6):  # block7 beats block6 with ResNet-101 alone
            better, worse = f"{backbone}, block{block}", f"{backbone}, block{block - 1}"
            claims.append(Claim(f"{better} beats block{block - 1}", better, worse))
    if len(backbones) > 1:
        shallow, deep = (f"{backbone}, block7" for backbone in backbones)
        claims.append(Claim("the deeper backbone is better at block7", deep, shallow))
    return Study(
        name="table2",
        title="Blocks in cascade, two backbones",
        protocol="ResNet-50 and ResNet-101 ending in block4 to block7, output stride 16, VOC 2012 val.",
        rows=tuple(rows),
        claims=tuple(claims),
    )
