"""Table 9: batch sizes at an equal number of steps."""

from __future__ import annotations

from itertools import pairwise

from atrous.studies.study import Base, Claim, Row, Study

PAPER_MIOU = {4: 64.43, 8: 75.76, 12: 76.49, 16: 77.21}


def build_study(base: Base) -> Study:
    """Return the study on a base's backbone.

    Source: Chen et al. 2017 (arXiv 1706.05587), Table 9.
    """
    batches = {printed: base.fit_batch(printed) for printed in PAPER_MIOU}
    rows = tuple(
        Row(f"batch {batch}", base.build_aspp() | {"training.batch": batch}, paper_miou=PAPER_MIOU[printed])
        for printed, batch in batches.items()
    )
    return Study(
        name="table9",
        title="Batch size",
        protocol="ResNet-101, multi-grid (1, 2, 4), image pooling, output stride 16, VOC 2012 val.",
        rows=rows,
        claims=tuple(
            Claim(f"{large.label} beats {small.label}", large.label, small.label) for small, large in pairwise(rows)
        ),
        notes=(
            "all rows train for the same number of steps at the same learning rate, as in the paper: with a smaller "
            "batch the network sees fewer images",
            f"the paper's batch sizes are {', '.join(map(str, PAPER_MIOU))}",
        ),
    )
