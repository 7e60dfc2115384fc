"""What the rest of the project expects of a data set, and what a run wants of one and gets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from atrous.core.data_source import SETTINGS_NAME
from atrous.core.errors import DataError
from atrous.core.findings import Finding
from atrous.core.inputs import PHOTO, ImageForm
from atrous.core.labels import LabelSpace
from atrous.core.records import Note, ProgressCallback, Sample
from atrous.core.registry import nearest_name
from atrous.core.split_options import DEFAULT_SHARE, DEFAULT_SPLIT, SplitOptions, is_list
from atrous.core.words import describe_count
from atrous.data.classes import Classes
from atrous.data.inventory import Exclusion, Inventory, Unlabelled
from atrous.data.mask_reader import PLAIN, MaskReader
from atrous.images.bands import choose_form
from atrous.images.samples import read_stored

MOST_LOOKED_AT = 9
"""Images whose headers decide which form all have."""


class SegmentationDataset(Protocol):
    """Images with labels, in a fixed order; the same index gives the same sample, and it pickles.

    A data set is called from one thread at a time, the one that trains or scores, unless it has an attribute
    `thread_safe` that is true; then images may also be read ahead in other threads. Each worker process of a training
    (`workers` above 0) has a copy of its own and calls it from its main thread.

    Samples are checked when they are read: see `atrous.data.samples.read_sample`.
    """

    @property
    def name(self) -> str:
        """Name of data and split, such as "camvid val"."""
        ...

    @property
    def label_space(self) -> LabelSpace:
        """What the ids in the masks mean."""
        ...

    def __len__(self) -> int: ...

    def get(self, index: int) -> Sample:
        """Return the image and its labels, class indices (H, W) uint16.

        The image is (H, W, 3) uint8 RGB, or, of a data set with an attribute `form`, (H, W, C) of this `ImageForm`.

        Raises:
            DataError: A file cannot be read, the sizes differ, or the mask holds an id outside the classes.
        """
        ...

    def key(self, index: int) -> str:
        """Return the sample's name, unique in the data set: a path without suffix, such as "a/photo"."""
        ...

    def mask(self, index: int) -> np.ndarray:
        """Return the raw ids, (H, W) integers, without decoding the image.

        Raises:
            DataError: The file cannot be read as a mask.
        """
        ...

    def image_path(self, index: int) -> Path | None:
        """Return the file of the image; None if images are made, not read."""
        ...

    def mask_path(self, index: int) -> Path | None:
        """Return the file of the mask; None if masks are made, not read."""
        ...


def describe_dataset(dataset: SegmentationDataset) -> str:
    """Return a data set in one line, as its `__repr__`."""
    images = describe_count(len(dataset), "image")
    classes = describe_count(dataset.label_space.num_classes, "class")
    return f"{type(dataset).__name__}({dataset.name!r}, {images}, {classes})"


@dataclass(frozen=True)
class DataRequest:
    """What is wanted of a data set. A builder reads what concerns it.

    Args:
        classes: Class names by id, or in the order of ids; of a registered data set, those to keep. None: all classes
            of a registered data set, or one class for each id found in the masks.
        ignore: Ids that are neither trained on nor scored, besides those that the data set ignores.
        mask_reader: What turns the numbers in mask files into ids.
        split: Which images are trained on and which are scored.
        images: The images of a folder of the user's own: a folder, a glob or a template; None to find them.
        masks: Their masks likewise.
        pairs: A CSV file with the columns image, mask and, if there are splits, split; instead of both.
        unlabelled: What an image without a mask is: an error, background as a whole, or skipped (ignore).
        channels: Bands of the images, from 1, or "rgb" or "grey"; None: what the files hold. See `choose_form`.
        value_range: Stored values that become 0 and 1; None: those of the type.
        page: Page of image files with several, from 1.
        exclude: Patterns of files to leave out; see `Exclusion` in data/inventory.py.
        every_pair: Whether all pairs are wanted, to score them: one of the two splits may then be missing, or both
            if there are others; what is there is spread over the two sides of `Splits`, and nothing is held out.
        only_test: Whether the test splits are wanted instead, all as the first side of `Splits`.
        progress: Receives the progress of reading masks, where the classes or the splits follow from them.
    """

    classes: Classes = None
    ignore: Sequence[int] = (255,)
    mask_reader: MaskReader = PLAIN
    split: SplitOptions = DEFAULT_SPLIT
    images: str | None = None
    masks: str | None = None
    pairs: str | None = None
    unlabelled: Unlabelled = "error"
    channels: tuple[int, ...] | str | None = None
    value_range: tuple[float, float] | None = None
    page: int | None = None
    exclude: Sequence[str] = ()
    every_pair: bool = False
    only_test: bool = False
    progress: ProgressCallback | None = None

    def find_exclusion(self, root: Path) -> Exclusion:
        """Return what is skipped of the data in a folder."""
        return Exclusion(root, tuple(self.exclude))

    def choose_form(self, images: Sequence[str]) -> ImageForm:
        """Return the form of the images of some data: the one of most of a few of them.

        Args:
            images: The images.
        Raises:
            DataError: Those that can be read lack a band that is wanted.
        """
        found: Counter[ImageForm] = Counter()
        problem: DataError | None = None
        for index in range(min(len(images), MOST_LOOKED_AT)):
            path = Path(images[index * len(images) // min(len(images), MOST_LOOKED_AT)])
            try:
                stored = read_stored(path, self.page)
            except DataError:  # which the checks of the data report
                continue
            try:
                found[choose_form(stored, self.channels, self.value_range, self.page)] += 1
            except DataError as error:
                problem = problem or error
        if problem is not None and not found:
            raise problem
        return max(found, key=found.__getitem__, default=PHOTO)

    def choose_splits(
        self, existing: Collection[str], place: str, with_images: Collection[str] = ()
    ) -> tuple[tuple[str, ...], tuple[Note, ...]]:
        """Return the names of the splits to read, and which are skipped: both, or those that are divided again.

        Args:
            existing: Names of the splits that the data have.
            place: Where they are, and what a split of this layout is, for messages.
            with_images: Names that have images, with or without masks.
        Raises:
            DataError: A split that is needed does not exist.
        """
        if self.only_test:
            return self._choose_test(existing, place, with_images), ()
        split = self.split
        wanted = tuple(dict.fromkeys((split.train_name, split.val_name)))
        there = tuple(name for name in wanted if name in existing) or tuple(sorted(existing))
        if self.every_pair and there:
            return self._take(there, existing)
        if split.is_divided and existing:
            named = tuple(text for text in (split.train, split.val) if isinstance(text, str) and not is_list(text))
            if any(split.lists):
                there = tuple(sorted(existing))
            elif not named:
                there = tuple(name for name in there if not name.startswith(_TEST)) or there
            else:
                there = named
            if {*named} <= {*existing}:
                return self._take(there, existing)
            wanted = named
        elif there == wanted:
            return there, ()
        if not existing:
            raise DataError(
                f"{place}: no splits found", "Check that this is the folder of the data, or add the splits."
            )
        missing = [name for name in wanted if name not in existing]
        others = sorted(set(existing) - set(wanted))
        last = others[0] if len(missing) == len(others) == 1 else "NAME"
        options = [
            f"`set` data.split.{option}={_guess_split(name, others) or last}"
            for option, name in (("train", split.train_name), ("val", split.val_name))
            if name in missing
        ]
        message = f"{place}: no split {' and no split '.join(missing)}; there are: {', '.join(sorted(existing))}"
        hint = (
            f"Choose one: {' '.join(options)}, or the same keys in {SETTINGS_NAME}."
            if others
            else "Add it, or hold out a share of the images: `set` data.split.val=0.2."
        )
        chosen = {name: name if name in existing else _guess_split(name, others) for name in wanted}
        if all(chosen.values()) and len({*chosen.values()}) == 2:
            settings: dict[str, Any] = {"train": chosen[split.train_name], "val": chosen[split.val_name]}
        else:
            settings = {"val": DEFAULT_SHARE}
        finding = Finding("unknown-layout", "error", 1, message, fix=hint, settings={"split": settings})
        raise DataError(message, hint, finding.code, findings=[finding])

    def _choose_test(self, existing: Collection[str], place: str, with_images: Collection[str]) -> tuple[str, ...]:
        used = (self.split.train_name, self.split.val_name)
        found = tuple(sorted(name for name in existing if name.startswith(_TEST) and name not in used))
        if found and len(found) < len(existing):  # with nothing else they were divided into train and val
            return found
        if unlabelled := sorted({_TEST, "testing"} & {*with_images} - {*existing}):
            raise DataError(f"{' and '.join(unlabelled)} has no masks", code="images-without-masks")
        raise DataError(f"{place}: no test split", code=NO_TEST)

    def _take(self, there: tuple[str, ...], existing: Collection[str]) -> tuple[tuple[str, ...], tuple[Note, ...]]:
        others = sorted(set(existing) - set(there))
        message = f"the splits {', '.join(there)} are taken, and {', '.join(others)} skipped"
        return there, (Note("skipped-splits", message),) if others else ()


DEFAULT_REQUEST = DataRequest()
"""All classes, splits `train` and `val`."""
NO_TEST = "no-test-split"
"""The code of the error that data have no test split."""
_TEST = "test"
"""How the names of splits begin of which nothing is held out: they are kept for the end."""


def _guess_split(name: str, others: Sequence[str]) -> str:
    """Return the split that is probably meant by a name that does not exist: "valid" for "val"; empty if none is."""
    similar = [other for other in others if other.lower().startswith(name) or name.startswith(other.lower())]
    return similar[0] if similar else nearest_name(name, list(others))


@dataclass(frozen=True)
class Splits:
    """The data of a run.

    Args:
        train: The data to train on.
        val: The data to score on.
        layout: How the files are laid out, such as "images/ and masks/ without splits".
        notes: What was assumed or skipped.
        is_repeatable: Whether the training samples are the same at every call; files are.
        inventories: What is in the folders that were paired, one for each split; none where lists name the files.
    """

    train: SegmentationDataset
    val: SegmentationDataset
    layout: str
    notes: tuple[Note, ...] = field(default=())
    is_repeatable: bool = True
    inventories: tuple[Inventory, ...] = ()

    def __repr__(self) -> str:
        return f"Splits(train={self.train!r}, val={self.val!r}, layout={self.layout!r})"
