"""ADE20K of the scene parsing benchmark (ADEChallengeData2016)."""

from __future__ import annotations

from dataclasses import dataclass

from atrous.data.datasets.ade20k import FOLDERS
from atrous.data.prepare.contracts import Archive, Contents, Plan

_ARCHIVES = (
    Archive(
        "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
        "sha1",
        "219e1696abb36c8ba3a3afe7fb2f4b4606a897c7",
    ),
)
"""Source of the hash: the scripts of GluonCV."""


@dataclass(frozen=True)
class Ade20kLayout:
    """ADE20K with 150 classes. Its images are numbered, so each one has its split in its name.

    Args:
        train: Images of training/.
        val: Images of validation/.
    """

    train: int
    val: int
    origin: str = "ADEChallengeData2016.zip: http://sceneparsing.csail.mit.edu/"
    lists: str = ""
    archives: tuple[Archive, ...] = _ARCHIVES

    def plan(self, contents: Contents) -> Plan:
        """Take the images with the numbers from 1 to the official count, and their masks.

        Raises:
            DataError: Two files have the same path.
        """
        plan = Plan()
        for split, count in (("train", self.train), ("val", self.val)):
            end, name = FOLDERS[split], rf"ADE_{split}_[0-9]{{8}}"
            keys = [f"{end}/ADE_{split}_{number:08d}" for number in range(1, count + 1)]
            images = contents.find(rf"images/{end}/{name}\.jpg")
            plan.add_split(split, images, count)
            plan.take([f"images/{key}.jpg" for key in keys], images)
            plan.take([f"annotations/{key}.png" for key in keys], contents.find(rf"annotations/{end}/{name}\.png"))
        return plan


ADE20K = Ade20kLayout(train=20210, val=2000)
"""Source: Zhou et al. 2017, Scene Parsing through ADE20K Dataset, section 4."""
