"""Images and masks in files: pairing them by name, and the data set over the pairs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import ClassVar

import numpy as np

from atrous.core.errors import DataError
from atrous.core.inputs import PHOTO, ImageForm
from atrous.core.labels import IGNORE_INDEX, LabelSpace
from atrous.core.records import Note, Sample
from atrous.data.classes import find_background
from atrous.data.contracts import NO_TEST, DataRequest, Splits, describe_dataset
from atrous.data.division import Division, divide_pairs
from atrous.data.facts import describe_size_mismatch
from atrous.data.inventory import KEEP_ALL, Exclusion, FileSet, Inventory, Pair, Unlabelled, take_inventory
from atrous.data.mask_reader import PLAIN, MaskReader
from atrous.data.split import NO_GROUPS, Grouping
from atrous.images.bands import load_bands
from atrous.images.decode import load_header
from atrous.images.windows import Window, load_window


@dataclass(frozen=True)
class PairDataset:
    """The data set over some pairs of files; `SegmentationDataset` describes its methods.

    Args:
        name: Name of data and split, such as "camvid val".
        label_space: What the ids in the masks mean.
        pairs: The files.
        mask_reader: What turns the numbers in the masks into ids.
        form: How the images become arrays.
        grouping: Which images are of one clip or scene.
    """

    name: str
    label_space: LabelSpace
    pairs: tuple[Pair, ...]
    mask_reader: MaskReader = PLAIN
    form: ImageForm = PHOTO
    grouping: Grouping = NO_GROUPS
    thread_safe: ClassVar[bool] = True

    def __repr__(self) -> str:
        return describe_dataset(self)

    def __len__(self) -> int:
        return len(self.pairs)

    def get(self, index: int) -> Sample:
        """Read a pair and turn ids into class indices; pixels without data are ignored.

        Raises:
            DataError: A file cannot be read, the sizes differ, or the mask holds an id outside the classes.
        """
        return self._read(self.pairs[index])

    def get_part(self, index: int, rows: slice, columns: slice) -> Sample:
        """Read a part of a sample that has a window, as `get` does, and nothing else of its files.

        Args:
            index: Number of the sample.
            rows: Rows of it, with explicit start and stop.
            columns: Columns likewise.
        Raises:
            DataError: As `get`.
        """
        pair = self.pairs[index]
        return self._read(replace(pair, window=pair.window.cut(rows, columns) if pair.window else None))

    def _read(self, pair: Pair) -> Sample:
        if pair.window is not None:
            image, is_missing = load_window(Path(pair.image), pair.window, self.form)
        else:
            image, is_missing = load_bands(pair.image, self.form)
        mask = self._read_mask(pair)
        if pair.mask is not None and image.shape[:2] != mask.shape:
            size = (mask.shape[0], mask.shape[1])
            raise DataError(
                describe_size_mismatch(pair.image, load_header(pair.image), pair.mask, size),
                "Masks are never resized to fit: export them again at the size of the image.",
            )
        try:
            labels = self.label_space.encode(mask)
        except DataError as error:
            raise DataError(f"{pair.mask}: {error.message}", error.hint) from error
        if is_missing is not None:
            labels[is_missing] = IGNORE_INDEX
        return Sample(pair.key, image, labels)

    def read_as(self, form: ImageForm) -> PairDataset:
        """Return the same pairs with images of another form."""
        return replace(self, form=form)

    def key(self, index: int) -> str:
        """Return the path without suffix that image and mask share."""
        return self.pairs[index].key

    def mask(self, index: int) -> np.ndarray:
        """Return the raw ids, (H, W)."""
        return self._read_mask(self.pairs[index])

    def _read_mask(self, pair: Pair) -> np.ndarray:
        if pair.mask is not None:
            return self.mask_reader.read(Path(pair.mask), pair.window)
        if pair.window is not None:
            size = pair.window.size
        else:
            header = load_header(pair.image)
            size = header.height, header.width
        return np.full(size, find_background(self.label_space), dtype=np.uint16)

    def window(self, index: int) -> Window | None:
        """Return the part of the files that the sample is; None: the whole."""
        return self.pairs[index].window

    def group(self, index: int) -> str | None:
        """Return the clip or scene of a sample, or its file if it is a part of one; None: it is alone."""
        pair = self.pairs[index]
        return self.grouping.find(pair.file_key) or (None if pair.window is None else pair.file_key)

    def name_files(self, index: int) -> tuple[str, str | None]:
        """Return the files of image and mask as text."""
        return self.pairs[index].image, self.pairs[index].mask

    def image_path(self, index: int) -> Path:
        """Return the file of the image."""
        return Path(self.pairs[index].image)

    def mask_path(self, index: int) -> Path | None:
        """Return the file of the mask; None if every pixel is background."""
        mask = self.pairs[index].mask
        return None if mask is None else Path(mask)


def find_pairs(
    folders: Mapping[str, tuple[str, Path | FileSet, Path | FileSet]],
    exclusion: Exclusion = KEEP_ALL,
    unlabelled: Unlabelled = "error",
) -> tuple[dict[str, tuple[Pair, ...]], tuple[Inventory, ...]]:
    """Pair images with masks by their path without suffix, sub-folders included; never by order.

    What does not pair is in the inventories, whose checks `build_splits` of atrous.data.build runs.

    Args:
        folders: By split: what its keys begin with (such as "train/"), its images, its masks.
        exclusion: What is skipped.
        unlabelled: See `Inventory`.
    Returns:
        The pairs of each split, sorted by key, and what is in its folders.
    """
    inventories = tuple(
        replace(inventory, unlabelled=unlabelled) for inventory in take_inventory(list(folders.values()), exclusion)
    )
    return {split: inventory.pairs for split, inventory in zip(folders, inventories, strict=True)}, inventories


def build_pair_splits(
    root: Path,
    name: str,
    space: LabelSpace,
    pairs: Mapping[str, tuple[Pair, ...]],
    request: DataRequest,
    *,
    layout: str,
    notes: Sequence[Note] = (),
    inventories: tuple[Inventory, ...] = (),
    has_splits: bool = True,
    ids: Mapping[str, Collection[int]] | None = None,
) -> Splits:
    """Build the splits of a run from the pairs of files of each.

    Args:
        root: The folder of the data.
        name: Name of the data.
        space: What the ids in the masks mean.
        pairs: The pairs of each split that the request chose.
        request: What is wanted.
        layout: How the files are laid out.
        notes: What was assumed or skipped.
        inventories: What is in the folders that were paired.
        has_splits: Whether the data have splits; otherwise all pairs are under one name.
        ids: The ids in the mask of each pair by its key, if they are known.
    Raises:
        DataError: A list of images cannot be read, or names images that the data do not have; or there is no test split
            where it alone is wanted.
        ConfigError: Numbers in the masks become an id that is neither a class nor ignored, or no class is background.
    """
    request.mask_reader.require_known(space)
    form = request.choose_form([pair.image for listed in pairs.values() for pair in listed])
    if form != PHOTO:
        notes = (*notes, Note("image-form", f"images: {form.describe()}{_describe_values(form)}"))
    if any(pair.mask is None for listed in pairs.values() for pair in listed):
        find_background(space)  # raises where there is none
    if request.only_test and not has_splits:
        raise DataError(f"{root}: no test split", code=NO_TEST)
    if request.only_test:
        train, val = " and ".join(pairs), ""
        sides = Division(tuple(chain.from_iterable(pairs.values())), ())
    elif request.every_pair:
        train, *others = pairs
        val = " and ".join(others)
        sides = Division(tuple(pairs[train]), tuple(pair for split in others for pair in pairs[split]))
    else:
        train, val = request.split.train_name, request.split.val_name
        excluded = {key for each in inventories for key in each.images.excluded}
        sides = divide_pairs(root, pairs, space, request, has_splits=has_splits, excluded=excluded, ids=ids)
    grouping = Grouping(request.split.group, tuple(pairs))
    is_whole = request.every_pair and not has_splits
    return Splits(
        PairDataset(
            f"{name}, every pair" if is_whole else f"{name} {train}",
            space,
            sides.train,
            request.mask_reader,
            form,
            grouping,
        ),
        PairDataset(f"{name} {val}", space, sides.val, request.mask_reader, form, grouping),
        layout=layout,
        notes=(*notes, *sides.notes),
        inventories=inventories,
    )


def _describe_values(form: ImageForm) -> str:
    low, high = form.value_range
    page = "" if form.page is None else f", page {form.page} of files with several"
    return f", {low:g} to {high:g} as 0 to 1{page}"
