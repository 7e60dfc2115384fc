"""Table 1: the output stride of a cascade."""

from __future__ import annotations

from itertools import pairwise

from atrous.studies.study import Base, Claim, Row, Study

PAPER_MIOU = {8: 75.18, 16: 73.88, 32: 70.06, 64: 59.99, 128: 42.34, 256: 20.29}


def build_study(base: Base) -> Study:
    """Return the study on a base's backbone.

    Source: Chen et al. 2017 (arXiv 1706.05587), Table 1.
    """
    rows = tuple(
        Row(f"output stride {stride}", base.build_cascade(3) | {"model.output_stride": stride}, paper_miou=miou)
        for stride, miou in PAPER_MIOU.items()
    )
    claims = tuple(
        Claim(f"{finer.label} beats {coarser.label}", finer.label, coarser.label) for finer, coarser in pairwise(rows)
    )
    return Study(
        name="table1",
        title="Output stride of a cascade with blocks 5 to 7",
        protocol="ResNet-50 with block7, trained and scored at the same output stride, VOC 2012 val.",
        rows=rows,
        claims=claims,
    )
