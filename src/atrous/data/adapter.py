"""Data sets of PyTorch and Hugging Face as data to train on and to score on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from atrous.core.arguments import refuse_wrong_types
from atrous.core.errors import DataError, UsageError
from atrous.core.labels import IGNORE_INDEX, LabelSpace
from atrous.core.records import Sample
from atrous.core.words import describe_count
from atrous.data.classes import name_classes
from atrous.data.contracts import describe_dataset
from atrous.data.samples import read_sample
from atrous.images.decode import load_image, load_mask

_IMAGE_KEYS = ("image", "img", "pixel_values")
_CHANNELS = (1, 3, 4)
_LAST = ((), *((channels,) for channels in _CHANNELS))
_PAIR = "Its items are (image, mask) pairs, or dicts with an image and a mask."
_NORMALISED = "Leave out Normalize: the network normalises images itself. Allowed: uint8, or floats in [0, 1]."
_FLOAT_MASK = "Give whole numbers: leave out ToTensor for masks, which divides by 255, and use PILToTensor."


@dataclass(frozen=True)
class AdaptedDataset:
    """A data set whose items are images with masks; `SegmentationDataset` describes the methods.

    Args:
        dataset: Has a length, and gives an item by its number.
        name: Name of data and split.
        label_space: What the ids in the masks mean.
        ignored: Values of the masks that are neither trained on nor scored; they may be negative.
    """

    dataset: Any
    name: str
    label_space: LabelSpace
    ignored: tuple[int, ...]
    thread_safe: ClassVar[bool] = False

    def __repr__(self) -> str:
        return describe_dataset(self)

    def __len__(self) -> int:
        return len(self.dataset)

    def get(self, index: int) -> Sample:
        """Return the image and its labels as class indices.

        Raises:
            UsageError: The item has another form than `from_torch` allows.
            DataError: The mask holds a value that is neither a class nor ignored.
        """
        image, mask = self._read(index)
        ids = self._convert_mask(mask, index)
        pixels = self._convert_image(image, ids.shape, index)
        try:
            return Sample(self.key(index), pixels, self.label_space.encode(ids))
        except DataError as error:
            raise DataError(f"{self._name_item(index)}: {error.message}", error.hint) from error

    def key(self, index: int) -> str:
        """Return the number of the sample as text."""
        return str(index)

    def mask(self, index: int) -> np.ndarray:
        """Return the ids, (H, W) uint8 or uint16; ignored values outside of the range of ids are `IGNORE_INDEX`."""
        return self._convert_mask(self._read(index)[1], index)

    def image_path(self, index: int) -> Path | None:
        """Return None: the data set reads the files, if there are any."""
        return None

    def mask_path(self, index: int) -> Path | None:
        """Return None likewise."""
        return None

    def _name_item(self, index: int) -> str:
        return f"{self.name}: item {index}"

    def _read(self, index: int) -> tuple[Any, Any]:
        item = self.dataset[index]
        if isinstance(item, Mapping):
            images = [key for key in _IMAGE_KEYS if key in item]
            masks = [key for key, value in item.items() if key not in images and _is_map(value)]
            if len(images) == len(masks) == 1:
                return item[images[0]], item[masks[0]]
            raise UsageError(
                f"{self._name_item(index)}: a dict with {', '.join(map(str, item)) or 'nothing'}",
                f"Keep one image, named {' or '.join(_IMAGE_KEYS)}, and one mask.",
            )
        if isinstance(item, tuple | list) and len(item) == 2:
            return item[0], item[1]
        size = f" of {len(item)}" if isinstance(item, tuple | list) else ""
        raise UsageError(f"{self._name_item(index)}: {type(item).__name__}{size}", _PAIR)

    def _convert_image(self, value: Any, size: tuple[int, ...], index: int) -> np.ndarray:
        """Return an image as (H, W, 3) uint8 RGB; channels may come first or last."""
        pixels = _read_array(value)
        if pixels is None:
            return load_image(value)
        if pixels.ndim == 3 and pixels.shape[0] in _CHANNELS and pixels.shape[1:] == size:
            pixels = np.moveaxis(pixels, 0, 2)
        elif pixels.shape[:2] != size or pixels.shape[2:] not in _LAST:
            raise UsageError(
                f"{self._name_item(index)}: the image is an array {pixels.shape}, the mask is {size[0]}x{size[1]}",
                "Give both at the same size, the image as (3, H, W) or (H, W, 3).",
            )
        if pixels.ndim == 3 and pixels.shape[2] == 1:
            pixels = pixels[..., 0]
        if pixels.dtype.kind == "f":
            if pixels.size and not (pixels.min() >= 0 and pixels.max() <= 1):  # false for NaN too
                message = f"the image holds floats from {pixels.min():g} to {pixels.max():g}"
                raise UsageError(f"{self._name_item(index)}: {message}", _NORMALISED)
            pixels = (pixels * 255).round().astype(np.uint8)
        elif pixels.dtype not in (np.uint8, np.uint16) and pixels.dtype.kind in "iu":
            if pixels.size and not (pixels.min() >= 0 and pixels.max() <= 255):
                message = f"the image holds {pixels.dtype} from {pixels.min()} to {pixels.max()}"
                raise UsageError(f"{self._name_item(index)}: {message}", "Give 0 to 255 as uint8.")
            pixels = pixels.astype(np.uint8)
        try:
            return load_image(pixels)
        except UsageError as error:
            raise UsageError(f"{self._name_item(index)}: {error.message}", error.hint) from error

    def _convert_mask(self, value: Any, index: int) -> np.ndarray:
        """Return a mask as ids, (H, W) uint8 or uint16."""
        ids = _read_array(value, is_mask=True)
        if ids is None:
            return load_mask(value)
        if ids.ndim == 3 and 1 in (ids.shape[0], ids.shape[2]):
            ids = ids[0] if ids.shape[0] == 1 else ids[..., 0]
        if ids.dtype == bool:
            ids = ids.astype(np.uint8)
        if ids.ndim != 2 or ids.dtype.kind not in "iu":
            raise UsageError(
                f"{self._name_item(index)}: the mask is an array {ids.shape} of {ids.dtype}",
                _FLOAT_MASK if ids.dtype.kind == "f" else "Give one class id for each pixel, (H, W).",
            )
        if ids.dtype in (np.uint8, np.uint16):
            return ids
        outside = [number for number in self.ignored if not 0 <= number < IGNORE_INDEX]
        if outside:
            ids = np.where(np.isin(ids, outside), IGNORE_INDEX, ids)
        if ids.size and (ids.min() < 0 or ids.max() > IGNORE_INDEX):
            bad = int(ids.min() if ids.min() < 0 else ids.max())
            count = describe_count(int((ids == bad).sum()), "pixel")
            raise DataError(
                f"{self._name_item(index)}: the mask holds {bad} ({count})",
                f"If it means ignore, name it: ignore={[*self.ignored, bad]}.",
            )
        return ids.astype(np.uint16)


@refuse_wrong_types
def from_torch(
    dataset: Any, *, classes: Sequence[str] | Mapping[int, str], ignore: int | Sequence[int] = 255
) -> AdaptedDataset:
    """Adapt a data set of PyTorch or Hugging Face, to train on it or to score on it.

    Its items are (image, mask) pairs, or dicts with one image ("image", "img" or "pixel_values") and one mask. An image
    is a PIL image, an array or a tensor, with channels first or last, of uint8 or of floats in [0, 1], not normalised.
    A mask has the size of its image and holds one id for each pixel.

    A data set to train on may change its samples at random; what `atrous.train` does at random comes on top, see
    `training.flip`, `training.scale_range` and `training.jitter`. A data set to score on must not.

    Args:
        dataset: Has a length and gives an item by its number: a `torch.utils.data.Dataset`, a split of Hugging Face, a
            list. It must pickle to be read by several workers.
        classes: Class names in the order of ids from 0, or by id.
        ignore: Ids that are neither trained on nor scored, such as 255 or -100.
    Raises:
        UsageError: The data set has no length or gives items of another form.
        ConfigError: An id is both named and ignored.
        DataError: The data set is empty, or a mask holds a value that is neither a class nor ignored.
    """
    ignored = (ignore,) if isinstance(ignore, int) else tuple(ignore)
    name = type(dataset).__name__
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        hint = "Give the data set of the loader: loader.dataset." if hasattr(dataset, "dataset") else _PAIR
        raise UsageError(f"dataset: {name} has no length or no items by number", hint)
    if isinstance(dataset, Mapping):
        names = ", ".join(repr(key) for key in dataset)
        raise UsageError(f"dataset: a dict of {names or 'nothing'}", "Give one of its splits.")
    in_range = [number if 0 <= number < IGNORE_INDEX else IGNORE_INDEX for number in ignored]
    adapted = AdaptedDataset(dataset, name, name_classes(classes, in_range), ignored)
    if not len(adapted):
        raise DataError(f"dataset: {name} is empty", "Give at least one image with its mask.")
    read_sample(adapted, 0)
    return adapted


def _read_array(value: Any, *, is_mask: bool = False) -> np.ndarray | None:
    """Return an array, a tensor or a mask of 32 bits as an array; None for what `load_image` and `load_mask` read."""
    if hasattr(value, "detach"):
        return np.asarray(value.detach().cpu())
    if isinstance(value, np.ndarray) or (is_mask and getattr(value, "mode", "") == "I"):
        return np.asarray(value)
    return None


def _is_map(value: Any) -> bool:
    """Whether a value of a dict may be a mask: something with two sides."""
    return hasattr(value, "getbands") or len(getattr(value, "shape", ())) >= 2
