"""Every family on one backbone, trained for an equal number of steps."""

from __future__ import annotations

import inspect

from atrous.networks import FAMILIES
from atrous.studies.study import Base, Claim, Row, Study

PAPER_MIOU = {"fcn": 68.39, "deeplabv3-cascade": 75.76, "deeplabv3": 77.21}
"""In percent, with ResNet-101 at output stride 16 and one scale: block4, block7, and ASPP with multi-grid."""


def build_study(base: Base) -> Study:
    """Return the study on a base's backbone.

    Source: Chen et al. 2017 (arXiv 1706.05587), Tables 2 and 5, and Figure 2, which names the kinds of network.
    """
    rows = []
    for family in FAMILIES:
        options = inspect.signature(FAMILIES.load(family)).parameters
        rates = {"rates": base.fit_rates(*options["rates"].default)} if "rates" in options else {}
        settings = {"model.name": f"{family}-{base.backbone}", "model.head": rates}
        rows.append(Row(family, settings, paper_miou=PAPER_MIOU.get(family)))
    return Study(
        name="families",
        title="Families at an equal number of steps",
        protocol="ResNet-101, output stride 16, VOC 2012 val; the paper compares three of them under equal conditions.",
        rows=tuple(rows),
        claims=(
            Claim("ASPP beats a plain 1x1 head", "deeplabv3", "fcn"),
            Claim("a cascade beats a plain 1x1 head", "deeplabv3-cascade", "fcn"),
            Claim("ASPP beats a cascade", "deeplabv3", "deeplabv3-cascade"),
        ),
        notes=("all families are trained and scored at output stride 16, with one recipe and the default heads",),
    )
