"""Cityscapes: images and the masks of label ids, city by city."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from atrous.core.findings import shorten_list
from atrous.data.prepare.contracts import Archive, Contents, Plan

_FOLDERS = {"leftImg8bit": "leftImg8bit", "gtFine": "gtFine_labelIds"}


@dataclass(frozen=True)
class CityscapesLayout:
    """Cityscapes. The masks keep their label ids, which the data set reads as classes.

    Args:
        cities: By split: the number of images of each city. A split other than train and val may be missing.
    """

    cities: Mapping[str, Mapping[str, int]]
    origin: str = (
        "leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip: https://www.cityscapes-dataset.com/downloads/"
        " (needs an account)"
    )
    lists: str = ""
    archives: tuple[Archive, ...] = ()

    def plan(self, contents: Contents) -> Plan:
        """Take the images of each city with their masks; a city in another split than its own is a problem.

        Raises:
            DataError: Two files have the same path.
        """
        plan = Plan()
        images, masks = (contents.find(rf"{folder}/[a-z]+/[^/]+/[^/]+_{end}\.png") for folder, end in _FOLDERS.items())
        for split, cities in self.cities.items():
            keys = [path.split("/", 1)[1].removesuffix("_leftImg8bit.png") for path in images]
            keys = [key for key in keys if key.startswith(f"{split}/")]
            if not keys and split not in ("train", "val"):
                continue
            plan.add_split(split, keys, sum(cities.values()))
            odd = [key for key in keys if not key.split("/")[2].startswith(f"{key.split('/')[1]}_")]
            if odd:
                plan.problems.append(f"names of another city than their folder: {shorten_list(odd)}")
            counts = Counter(key.split("/")[1] for key in keys)
            wrong = [
                f"{city} {counts[city]} of {cities.get(city, 0)}"
                for city in sorted({*counts, *cities})
                if counts[city] != cities.get(city, 0)
            ]
            if wrong:
                plan.problems.append(f"images of cities in {split}: {shorten_list(wrong)}")
            plan.take([f"leftImg8bit/{key}_leftImg8bit.png" for key in keys], images)
            plan.take([f"gtFine/{key}_gtFine_labelIds.png" for key in keys], masks)
        return plan


CITYSCAPES = CityscapesLayout(
    {
        "train": {
            **{"aachen": 174, "bochum": 96, "bremen": 316, "cologne": 154, "darmstadt": 85, "dusseldorf": 221},
            **{"erfurt": 109, "hamburg": 248, "hanover": 196, "jena": 119, "krefeld": 99, "monchengladbach": 94},
            **{"strasbourg": 365, "stuttgart": 196, "tubingen": 144, "ulm": 95, "weimar": 142, "zurich": 122},
        },
        "val": {"frankfurt": 267, "lindau": 59, "munster": 174},
        "test": {"berlin": 544, "bielefeld": 181, "bonn": 46, "leverkusen": 58, "mainz": 298, "munich": 398},
    }
)
"""2,975, 500 and 1,525 images. Source: Cordts et al. 2016 (arXiv 1604.01685), section 2 for the numbers of the splits;
the archives for those of the cities."""
