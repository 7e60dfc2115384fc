"""DeepLabv2 and DeepLabv3, each with and without a conditional random field."""

from __future__ import annotations

from atrous.studies.study import Base, Claim, Row, Study

V2_RATES = (3, 6, 9, 12)
"""In cells at output stride 16; the paper prints 6, 12, 18, 24 for output stride 8."""
V2, V2_CRF, V3, V3_CRF = ("DeepLabv2", "DeepLabv2 and DenseCRF", "DeepLabv3", "DeepLabv3 and DenseCRF")


def build_study(base: Base) -> Study:
    """Return the study on a base's backbone.

    Source: Chen et al. 2016 (arXiv 1606.00915); Chen et al. 2017 (arXiv 1706.05587), section 4.
    """
    v2 = {
        "model.name": f"deeplabv2-{base.backbone}",
        "model.head": {"rates": base.fit_rates(*V2_RATES)},
        "model.output_stride": 8,
        "training.norm": "frozen",
        "training.loss_resolution": "cells",
    }
    v3 = base.build_aspp()
    return Study(
        name="v2",
        title="DeepLabv2 and DeepLabv3, with and without DenseCRF",
        protocol="ResNet-101, VOC 2012 val: v2 at output stride 8, over scales, pre-trained on COCO; v3 at 16.",
        rows=(
            Row(V2, v2),
            Row(V2_CRF, v2, {"crf": True}, 77.69),
            Row(V3, v3, paper_miou=77.21),
            Row(V3_CRF, v3, {"crf": True}),
        ),
        claims=(
            Claim("DenseCRF helps DeepLabv2", V2_CRF, V2),
            Claim("DeepLabv3 alone beats DeepLabv2 without DenseCRF", V3, V2),
        ),
        notes=(
            "DeepLabv2 is trained as in its own paper: frozen batch norm, labels downsampled to its cells",
            "the paper's DeepLabv2 score includes training on COCO and several scales; these rows include neither",
        ),
    )
