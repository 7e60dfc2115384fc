"""PASCAL VOC 2012, with the masks of SBD where they are given: train, val, and train_aug."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from atrous.core.findings import shorten_list
from atrous.core.words import describe_count
from atrous.data.prepare.contracts import Archive, Contents, Plan, Taken
from atrous.data.prepare.sbd import convert_sbd_mask, require_mat_reader

_LISTS = "ImageSets/Segmentation"
_NAME = re.compile(r"[0-9]{4}_[0-9]{6}")

_ARCHIVES = (
    Archive(
        "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
        "md5",
        "6cd6e144f989b92b3379bac3b3de84fd",
    ),
    Archive(
        "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
        "md5",
        "82b4d87ceb2ed10f6038a1cba92111cb",
    ),
)
"""VOC and SBD. Source of the hashes: torchvision's VOCSegmentation and SBDataset."""


@dataclass(frozen=True)
class VocLayout:
    """VOC 2012.

    `train_aug` is what is in VOC's train or in SBD and not in VOC's val. VOC's own mask wins where there are two.

    Args:
        train: Images of VOC's train.
        val: Images of VOC's val.
        train_aug: Images of train_aug.
    """

    train: int
    val: int
    train_aug: int
    origin: str = (
        "VOCtrainval_11-May-2012.tar: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/; for train_aug also SBD's "
        "benchmark.tgz: https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/"
    )
    lists: str = rf"{_LISTS}/(?:train|val)\.txt"
    archives: tuple[Archive, ...] = _ARCHIVES

    def plan(self, contents: Contents) -> Plan:
        """Take what the lists of train and val name, and of SBD what is not in val.

        Raises:
            DataError: Two files have the same path.
            MachineError: scipy is missing, which SBD's masks need.
        """
        plan = Plan()
        texts = {path: contents.texts[file].split() for path, file in contents.find(self.lists).items()}
        train, val = (self._read_list(plan, texts, split) for split in ("train", "val"))
        plan.refuse_overlap("train", "val", set(train) & set(val))
        own = sorted({*train, *val})
        augmented = contents.find(r"cls/[0-9]{4}_[0-9]{6}\.mat")
        others = sorted({path[4:-4] for path in augmented} - set(own))
        plan.take([f"SegmentationClass/{key}.png" for key in own], contents.find(r"SegmentationClass/[^/]+\.png"))
        plan.take([f"JPEGImages/{key}.jpg" for key in (*own, *others)], contents.find(r"JPEGImages/[^/]+\.jpg"))
        for split, keys in (("train", train), ("val", val), ("trainval", own)):
            plan.texts[f"{_LISTS}/{split}.txt"] = _write_list(keys)
        if augmented:
            require_mat_reader()
            both = sorted({*train, *others})
            plan.add_split("train_aug", both, self.train_aug)
            plan.texts[f"{_LISTS}/train_aug.txt"] = _write_list(both)
            for key in others:
                file = augmented[f"cls/{key}.mat"]
                plan.files[f"SegmentationClass/{key}.png"] = Taken(file, functools.partial(convert_sbd_mask, str(file)))
        return plan

    def _read_list(self, plan: Plan, texts: dict[str, list[str]], split: str) -> list[str]:
        names = texts.get(f"{_LISTS}/{split}.txt")
        if names is None:
            plan.problems.append(f"no {_LISTS}/{split}.txt")
            return []
        odd = [name for name in names if _NAME.fullmatch(name) is None]
        if odd:
            count = describe_count(len(odd), "name")
            plan.problems.append(f"{split}.txt: {count} of another form than 2007_000032: {shorten_list(odd)}")
        keys = list(dict.fromkeys(name for name in names if name not in odd))
        plan.add_split(split, keys, self.train if split == "train" else self.val)
        return keys


def _write_list(keys: list[str]) -> str:
    return "".join(f"{key}\n" for key in keys)


VOC = VocLayout(train=1464, val=1449, train_aug=10582)
"""Source: Everingham et al., The PASCAL Visual Object Classes Challenge 2012 (its lists); Chen et al. 2017
(arXiv 1706.05587), section 4, for the 10,582 images of train_aug with Hariharan et al. 2011 (SBD)."""
