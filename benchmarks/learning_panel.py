"""The panel of data sets on which learning is measured: each as images to train on and images to score."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from atrous.config.schema import DataConfig
from atrous.core.labels import IGNORE_INDEX, LabelSpace
from atrous.core.records import Sample
from atrous.core.split_options import SplitOptions
from atrous.data.build import build_splits
from atrous.data.contracts import SegmentationDataset, Splits
from atrous.data.datasets.shapes import build_shapes

ANIMALS = ("background", "cat", "cow", "dog", "horse", "person", "sheep")
DRIVE = "0001TP"
"""The drive of CamVid that one member of the panel holds out: neighbouring frames look alike, val's too."""
TUNING_DRIVE = "0006R0"
"""The drive that is held out while settings are chosen."""
TUNING_EVERY = 15
"""One of so many training images is held out while settings are chosen, where the data are no film."""


class View:
    """Some samples of a data set, with other classes, without colour, or at half their size.

    Args:
        dataset: The data set.
        name: Name of the view.
        indices: Which samples, in which order, (N,).
        class_names: Names of the view's classes. Default: those of the data set.
        class_table: The view's class of each of the data set's K classes, (K,).
        is_grey: Whether images lose their colour; they keep three bands.
        is_half: Whether images and masks have half their height and width.
    """

    thread_safe = True

    def __init__(
        self,
        dataset: SegmentationDataset,
        name: str,
        indices: Sequence[int],
        *,
        class_names: tuple[str, ...] = (),
        class_table: tuple[int, ...] = (),
        is_grey: bool = False,
        is_half: bool = False,
    ) -> None:
        self.dataset = dataset
        self.name = name
        self.indices = list(indices)
        self.is_grey = is_grey
        self.is_half = is_half
        self.label_space = LabelSpace(class_names) if class_names else dataset.label_space
        self._table: np.ndarray | None = None
        if class_table:
            self._table = np.full(IGNORE_INDEX + 1, IGNORE_INDEX, dtype=np.uint16)
            self._table[: len(class_table)] = class_table

    def __len__(self) -> int:
        return len(self.indices)

    def get(self, index: int) -> Sample:
        """Return the image and its labels as class indices."""
        sample = self.dataset.get(self.indices[index])
        image, labels = sample.image, sample.labels
        if self.is_grey:
            image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        if self._table is not None:
            labels = self._table[labels]
        if self.is_half:
            labels = labels[::2, ::2]
            image = cv2.resize(image, labels.shape[::-1], interpolation=cv2.INTER_AREA)
        return Sample(sample.key, image, labels)

    def key(self, index: int) -> str:
        """Return the sample's name."""
        return self.dataset.key(self.indices[index])

    def mask(self, index: int) -> np.ndarray:
        """Return the raw ids, (H, W)."""
        mask = self.dataset.mask(self.indices[index])
        if self.is_half:
            mask = mask[::2, ::2]
        if self._table is None:
            return mask
        labels = self._table[self.dataset.label_space.encode(mask)]
        return np.minimum(labels, 255).astype(np.uint8)  # ids are indices, and void is 255

    def image_path(self, index: int) -> Path | None:
        """Return the file of the image; None where the image is changed."""
        return None if self.is_grey or self.is_half else self.dataset.image_path(self.indices[index])

    def mask_path(self, index: int) -> Path | None:
        """Return the file of the mask; None where the mask is changed."""
        return None if self.is_half or self._table is not None else self.dataset.mask_path(self.indices[index])


@dataclass(frozen=True)
class Member:
    """A data set of the panel.

    Args:
        build: Finds the splits in the folder of all data.
        build_tuning: Finds splits for the choice of settings; what they score is held out of the training images.
        crop: Side of the training crop in pixels.
        weights: Where the backbone starts.
        settings: Settings that the data call for, the same for every recipe.
    """

    build: Callable[[Path], Splits]
    build_tuning: Callable[[Path], Splits]
    crop: int = 321
    weights: str = "imagenet"
    settings: Mapping[str, Any] = field(default_factory=dict)


def find_camvid(root: Path, held_out: str | None = None) -> Splits:
    """CamVid's train and val; or train without one drive, scored on that drive."""
    splits = build_splits(DataConfig(source=f"camvid={root / 'camvid'}"))
    if held_out is None:
        return splits
    return hold_out(splits.train, [i for i in range(len(splits.train)) if held_out in splits.train.key(i)])


def hold_out(train: SegmentationDataset, indices: Collection[int]) -> Splits:
    """Score on some of the training images, and train on the others."""
    others = [index for index in range(len(train)) if index not in set(indices)]
    return Splits(
        View(train, f"{train.name}, rest", others),
        View(train, f"{train.name}, held out", sorted(indices)),
        layout="a part held out of the training images",
    )


def find_animals(root: Path, *, tuning: bool, count: int | None = None) -> Splits:
    """PASCAL VOC's images of animals: train_aug and val; or train_aug without a part, scored on that part.

    Args:
        root: Folder of all data.
        tuning: Whether a part of the training images is scored.
        count: How many of the images that are never held out are trained on; a seeded choice, in which every class
            occurs. Default: all.
    """
    source = f"voc={root / 'voc_animals'}"
    splits = build_splits(DataConfig(source=source, classes=ANIMALS, split=SplitOptions(train="train_aug")))
    halves = hold_out(splits.train, range(0, len(splits.train), TUNING_EVERY))
    if count is not None:
        return Splits(choose_few(halves.train, count), halves.val if tuning else splits.val, splits.layout)
    return halves if tuning else splits


def choose_few(train: SegmentationDataset, count: int) -> View:
    """Choose images in random order, first those that show a class for the first time."""
    order = np.random.default_rng(0).permutation(len(train)).tolist()
    missing, first = set(train.label_space.ids), []
    for index in order:
        if not missing:
            break
        found = missing & set(np.unique(train.mask(index)).tolist())
        first += [index] if found else []
        missing -= found
    chosen = list(dict.fromkeys([*first, *order]))[:count]
    return View(train, f"{train.name}, {count}", sorted(chosen))


def find_person(root: Path, *, tuning: bool, is_grey: bool = False) -> Splits:
    """Two classes of the images of animals, person and the rest; in colour or grey."""
    splits = find_animals(root, tuning=tuning)
    table = tuple(int(name == "person") for name in ANIMALS)
    names = ("rest", "person")
    train, val = (
        View(part, f"{part.name}, person", range(len(part)), class_names=names, class_table=table, is_grey=is_grey)
        for part in (splits.train, splits.val)
    )
    return Splits(train, val, splits.layout)


def draw_shapes(_: Path, **options: int) -> Splits:
    """Draw the built-in images of shapes."""
    return build_shapes(**options)


def halve(find: Callable[[Path], Splits], root: Path) -> Splits:
    """Find splits and halve their images: settings can be compared in a quarter of the time."""
    splits = find(root)
    train, val = (
        View(part, f"{part.name}, half size", range(len(part)), is_half=True) for part in (splits.train, splits.val)
    )
    return Splits(train, val, splits.layout)


def _at_half_size(member: Member, crop: int) -> Member:
    find, find_tuning = partial(halve, member.build), partial(halve, member.build_tuning)
    return Member(find, find_tuning, crop=crop, weights=member.weights, settings={"model.head": {"rates": (3, 6, 9)}})


def _animals(find: Callable[..., Splits], **options: Any) -> Member:
    return Member(partial(find, tuning=False, **options), partial(find, tuning=True, **options))


PANEL: dict[str, Member] = {
    "camvid": Member(find_camvid, partial(find_camvid, held_out=TUNING_DRIVE), crop=353),
    "camvid-drive": Member(partial(find_camvid, held_out=DRIVE), partial(find_camvid, held_out=TUNING_DRIVE), crop=353),
    "animals": _animals(find_animals),
    "animals-50": _animals(find_animals, count=50),
    "animals-300": _animals(find_animals, count=300),
    "person": _animals(find_person),
    "person-grey": _animals(find_person, is_grey=True),
    "shapes": Member(
        draw_shapes,
        partial(draw_shapes, seed=1),
        crop=257,
        weights="none",
        settings={"model.head": {"rates": (4, 8, 12)}},
    ),
}
"""The panel by name."""

TUNING_PANEL: dict[str, Member] = {
    "camvid-half": _at_half_size(PANEL["camvid"], 177),
    "animals-half": _at_half_size(PANEL["animals"], 161),
    "shapes-half": Member(
        partial(draw_shapes, size=129),
        partial(draw_shapes, seed=1, size=129),
        crop=129,
        weights="none",
        settings={"model.head": {"rates": (2, 4, 6)}},
    ),
}
"""Smaller forms, on which many settings can be compared."""

SMOKE = Member(
    lambda _: build_shapes(num_train=16, num_val=3, size=97),
    lambda _: build_shapes(num_train=16, num_val=3, size=97, seed=1),
    crop=97,
    weights="none",
    settings={"model.head": {"rates": (1, 2, 3)}},
)
"""Small enough for a test."""
