"""Table 10: the output stride in training and in scoring."""

from __future__ import annotations

from atrous.studies.study import Base, Claim, Row, Study

PAPER_MIOU = {8: {16: 74.45, 8: 75.62}, 16: {16: 77.21, 8: 78.51}, 32: {16: 75.90, 8: 75.75}}
"""By output stride in training, then in scoring."""
PAPER_BATCHES = {8: 6, 16: 16, 32: 24}


def name_row(trained: int, scored: int) -> str:
    """Return the label of a row.

    Args:
        trained: Output stride in training.
        scored: Output stride in scoring.
    """
    return f"trained at {trained}, scored at {scored}"


def build_study(base: Base) -> Study:
    """Return the study on a base's backbone.

    Source: Chen et al. 2017 (arXiv 1706.05587), Table 10.
    """
    rows = tuple(
        Row(
            name_row(trained, scored),
            base.build_aspp()
            | {"model.output_stride": trained, "training.batch": base.fit_batch(PAPER_BATCHES[trained])},
            {"output_stride": scored},
            miou,
        )
        for trained, scores in PAPER_MIOU.items()
        for scored, miou in scores.items()
    )
    return Study(
        name="table10",
        title="Output stride of training and scoring",
        protocol="ResNet-101, multi-grid (1, 2, 4), image pooling, the largest batch that fits, VOC 2012 val.",
        rows=rows,
        claims=(
            Claim("trained at 16, scoring at 8 beats 16", name_row(16, 8), name_row(16, 16)),
            Claim("training at 16 beats training at 32 when both are scored at 8", name_row(16, 8), name_row(32, 8)),
            Claim(
                "training at 16 with a large batch beats training at 8 with a small one",
                name_row(16, 8),
                name_row(8, 8),
            ),
        ),
        notes=(
            "batch sizes have the proportions of the paper's 6, 16 and 24 at output strides 8, 16 and 32: "
            + ", ".join(str(base.fit_batch(batch)) for batch in PAPER_BATCHES.values()),
        ),
    )
