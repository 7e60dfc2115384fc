"""Table 8: parts of the training recipe: crop, resolution of the loss, batch norm."""

from __future__ import annotations

from atrous.networks.rates import RATE_STRIDE
from atrous.studies.study import CROP_STEP_PX, PAPER_RATES, Base, Claim, Row, Study

PAPER_CROP, PAPER_SMALL_CROP = 513, 321
WHOLE, FROZEN, SHRUNK, SMALL = (
    "the recipe",
    "batch norm frozen",
    "labels downsampled, logits not upsampled",
    "a smaller crop",
)


def fit_small_crop(base: Base) -> int:
    """Scale the crop of the base by 321 / 513, but keep it large enough for the largest rate."""
    scaled = round((base.crop - 1) * (PAPER_SMALL_CROP - 1) / (PAPER_CROP - 1) / CROP_STEP_PX)
    needed = -(-max(base.fit_rates(*PAPER_RATES)) * RATE_STRIDE // CROP_STEP_PX)
    return max(scaled, needed) * CROP_STEP_PX + 1


def build_study(base: Base) -> Study:
    """Return the study on a base's backbone.

    Source: Chen et al. 2017 (arXiv 1706.05587), Table 8.
    """
    recipe = base.build_aspp()
    small_crop = fit_small_crop(base)
    return Study(
        name="table8",
        title="The recipe, one change at a time",
        protocol="ResNet-101, multi-grid (1, 2, 4), image pooling, crop 513, output stride 16, VOC 2012 val.",
        rows=(
            Row(WHOLE, recipe, paper_miou=77.21),
            Row(FROZEN, recipe | {"training.norm": "frozen"}, paper_miou=75.95),
            Row(SHRUNK, recipe | {"training.loss_resolution": "cells"}, paper_miou=76.01),
            Row(SMALL, recipe | {"training.crop": small_crop}, paper_miou=67.22),
        ),
        claims=(
            Claim("training the batch norm helps", WHOLE, FROZEN),
            Claim("a loss at the full resolution of the labels helps", WHOLE, SHRUNK),
            Claim("a smaller crop hurts", WHOLE, SMALL),
        ),
        notes=(f"the smaller crop has {small_crop} pixels instead of {base.crop}; in the paper 321 instead of 513",),
    )
