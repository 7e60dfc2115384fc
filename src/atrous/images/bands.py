"""Images of any number of bands and of 8, 16 or 32 bits as arrays, in the form that a network takes in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from atrous.core.errors import DataError, UsageError
from atrous.core.inputs import DTYPE_RANGES, MOST_BANDS, PHOTO, ImageForm
from atrous.core.words import describe_count
from atrous.images.decode import ImageInput, load_image
from atrous.images.samples import StoredImage, find_empty, load_hidden, load_samples, read_stored
from atrous.images.tiff_tags import is_tiff
from atrous.images.traits import measure_values

LEAST_SHOWN = 32
"""Share of the range, as its reciprocal, that an image shows from black to white at least."""
_LUMA = (0.299, 0.587, 0.114)


class Bands(NamedTuple):
    """An image in the form of a network.

    Args:
        image: (H, W, C) of the form's type; missing values are the lower end of its range.
        is_missing: (H, W) bool, pixels without a value in any of the bands: the nodata value of a GeoTIFF, or no finite
            number; None if there are none.
    """

    image: np.ndarray
    is_missing: np.ndarray | None


def load_bands(source: ImageInput, form: ImageForm = PHOTO) -> Bands:
    """Decode an image into the form of a network; a photo is what `load_image` gives.

    Args:
        source: As for `load_image`. An array holds the bands of the network in their order, (H, W, C), or (H, W) if
            there is one.
        form: Which bands, of which type.
    Raises:
        DataError: `load_image` cannot read it, or it has other bands or values of another type than the form.
        UsageError: An array of another shape or dtype, or an object of another type.
        MachineError: Not enough memory to decode it, or the package that reads such files is not installed.
    """
    if isinstance(source, np.ndarray):
        return Bands(load_image(source), None) if form.is_photo else _take_array(source, form)
    if form.is_photo and not is_tiff(source):  # of all others no header tells more than the decoder itself
        return Bands(load_image(source, form.page), None)
    stored = require_form(source, form)

    def read_photo(as_stored: bool) -> np.ndarray:
        return load_image(source, form.page, as_stored=as_stored)

    return build_bands(
        stored,
        form,
        read_photo,
        read_samples=lambda: load_samples(source, form.page),
        read_hidden=lambda: load_hidden(source, form.page),
    )


def require_form(source: ImageInput, form: ImageForm) -> StoredImage:
    """Return what the header of an image says, after requiring that the image can be read in a form.

    Args:
        source: As for `load_image`, but no array.
        form: The form.
    Raises:
        DataError: It cannot, or the file is damaged.
    """
    stored = read_stored(source, form.page)
    if misfit := describe_misfit(stored, form):
        raise DataError(
            f"{stored.name}: {misfit}",
            "Give images like those that the model was trained on, or train a model on images like this one.",
        )
    return stored


def build_bands(
    stored: StoredImage,
    form: ImageForm,
    read_photo: Callable[[bool], np.ndarray],
    *,
    read_samples: Callable[[], np.ndarray],
    read_hidden: Callable[[], np.ndarray],
) -> Bands:
    """Build an image, or a part of one, in the form of a network.

    Args:
        stored: What `read_stored` says of the image.
        form: The form, which fits.
        read_photo: Returns the pixels as `load_image` does, (H, W, 3), with its `as_stored`.
        read_samples: Returns the same pixels as they are stored, (H, W, S).
        read_hidden: Returns which of them the mask in the file hides, (H, W) bool, where there is one.
    """
    if form.is_photo and stored.is_photo and stored.nodata is None and not stored.has_mask:
        return Bands(read_photo(False), None)
    if form.is_photo and stored.is_photo and stored.dtype == "uint8":
        taken = read_photo(True)  # the values that the nodata value is of
    else:
        taken = _take_bands(read_samples(), stored.num_colours, form)
    is_empty = find_empty(taken, stored.nodata)
    if stored.has_mask:
        is_empty |= read_hidden()[..., None]
    is_missing = np.asarray(is_empty.all(axis=2))
    if form.is_photo and (stored.is_photo or taken.dtype in (np.uint8, np.uint16)):
        image = np.array(read_photo(False) if stored.is_photo else load_image(taken))
    else:
        image = np.array(taken, dtype=form.dtype, order="C")
    if is_empty.any():
        image[is_empty] = form.value_range[0]
    return Bands(image, is_missing if is_missing.any() else None)


def show_bands(image: np.ndarray, form: ImageForm, *, deep: bool = False) -> np.ndarray:
    """Return the visible bands of an image as people see them, from black at the lower end of the range to white.

    Args:
        image: An image of this form; a photo stays as it is.
        form: Its form.
        deep: Whether white is 65535, which keeps levels that 8 bits cannot tell apart.
    Shapes:
        in (H, W, C); out (H, W, 3) uint8 RGB, or uint16.
    """
    if form.is_photo:
        return image
    low, high = form.value_range
    dtype = np.uint16 if deep else np.uint8
    white = float(np.iinfo(dtype).max)
    seen = image[..., form.visible_bands].astype(np.float32)
    shown = np.clip((seen - low) * (white / (high - low)), 0.0, white).round().astype(dtype)
    return np.ascontiguousarray(np.broadcast_to(shown, (*image.shape[:2], 3)))


def stretch_bands(image: np.ndarray, form: ImageForm) -> np.ndarray:
    """Return the visible bands of an image for people, from its own darkest values to its brightest.

    Pixels at the lower end of the range, which those without data are, do not count. Differences of less than a 32nd
    of the range, such as noise, are not stretched further.

    Args:
        image: An image of this form; a photo stays as it is.
        form: Its form.
    Shapes:
        in (H, W, C); out (H, W, 3) uint8 RGB.
    """
    if form.is_photo:
        return image
    start, end = form.value_range
    seen = image[..., form.visible_bands]
    seen = seen[(seen != start).any(axis=2)]  # (N, V)
    if not len(seen):
        return show_bands(image, form)
    values = measure_values(seen[:, None])
    low, high = min(low for low, _ in values), max(high for _, high in values)
    middle, half = (low + high) / 2, max(high - low, (end - start) / LEAST_SHOWN) / 2
    return show_bands(image, replace(form, value_range=(middle - half, middle + half)))


def choose_form(
    stored: StoredImage,
    channels: tuple[int, ...] | str | None = None,
    value_range: tuple[float, float] | None = None,
    page: int | None = None,
) -> ImageForm:
    """Choose the form of images by what one of them holds, without decoding it.

    Files that are RGB or grey, of 8 or 16 bits, are photos unless more is asked: RGB of 8 bits. All other files keep
    the bands and the type that they have.

    Args:
        stored: What `read_stored` says of one of them.
        channels: The bands to take, from 1, "rgb" or "grey". None: those of the file.
        value_range: Stored values that become 0 and 1. None: the range of the type.
        page: See `ImageForm`.
    Raises:
        DataError: The file lacks one of the bands, or has more than are taken and none is named.
    """
    is_plain = stored.is_photo and not stored.has_fourth and value_range is None
    if is_plain and (channels is None or (channels == "rgb" and stored.dtype == "uint8")):
        return ImageForm(page=page)
    bands: Literal["rgb", "grey"] | tuple[int, ...]
    if channels is None:
        if stored.num_colours > MOST_BANDS:
            raise DataError(
                f"{stored.name}: has {describe_count(stored.num_bands, 'band')}, and at most {MOST_BANDS:,} are taken",
                "Name those to take: data.channels: [1, 2, 3].",
            )
        bands = tuple(range(stored.num_colours))
    elif isinstance(channels, str):
        bands = "rgb" if channels == "rgb" else "grey"
    else:
        bands = tuple(number - 1 for number in channels)
        if max(bands) >= stored.num_bands:
            raise DataError(
                f"{stored.name}: has {describe_count(stored.num_bands, 'band')}, and data.channels names "
                f"{max(bands) + 1}",
                f"Bands are numbered from 1 to {stored.num_bands}.",
            )
    dtype = stored.dtype if stored.dtype in DTYPE_RANGES else "float32"
    kind = np.dtype(stored.dtype)
    whole = DTYPE_RANGES[dtype] if kind.kind == "f" or kind.name in DTYPE_RANGES else None
    if whole is None:
        limits = np.iinfo(kind)
        whole = float(limits.min), float(limits.max)
    return ImageForm(bands, dtype, value_range or whole, page)


def describe_misfit(stored: StoredImage, form: ImageForm) -> str:
    """Say why a file cannot be read in a form, naming what both have; nothing if it can.

    Args:
        stored: What `read_stored` says of the file.
        form: The form.
    """
    has, wanted = f"{describe_count(stored.num_bands, 'band')} of {stored.dtype}", form.describe()
    if isinstance(form.bands, tuple):
        wanted += f" ({', '.join(str(band + 1) for band in form.bands)} of the file)"
        fits = max(form.bands) < stored.num_bands
    else:
        fits = stored.num_colours in (1, 3)
    if form.is_photo:
        fits = stored.is_photo or (fits and stored.dtype in ("uint8", "uint16"))
    else:
        fits = fits and form.dtype in ("float32", stored.dtype)
    return "" if fits else f"has {has}, and {wanted} {'are' if form.channels > 1 else 'is'} wanted"


def _take_array(pixels: np.ndarray, form: ImageForm) -> Bands:
    """Return an array in memory as an image of a form, which it must have already."""
    image = pixels[..., None] if pixels.ndim == 2 else pixels
    if image.ndim != 3 or image.shape[2] != form.channels or image.dtype != form.dtype or not image.size:
        raise UsageError(
            f"cannot read an array of {pixels.dtype} {pixels.shape} as an image: the model takes {form.describe()}",
            f"Give an array (H, W, {form.channels}) of {form.dtype}, not empty.",
        )
    if image.dtype.kind != "f" or np.isfinite(image).all():
        return Bands(np.ascontiguousarray(image), None)
    is_empty = ~np.isfinite(image)
    is_missing = np.asarray(is_empty.all(axis=2))
    return Bands(np.where(is_empty, np.float32(form.value_range[0]), image), is_missing if is_missing.any() else None)


def _take_bands(samples: np.ndarray, num_colours: int, form: ImageForm) -> np.ndarray:
    """Return the bands (H, W, C) of a file with samples (H, W, S), the first `num_colours` of which are no alpha."""
    if isinstance(form.bands, tuple):
        return samples[..., form.bands]
    colours = samples[..., : min(num_colours, 3)]  # of four bands, such as RGB and near infrared, the first three
    if form.bands == "rgb":
        return np.repeat(colours, 3, axis=2) if num_colours == 1 else colours
    if num_colours == 1:
        return colours
    if colours.dtype == np.uint8:
        return np.asarray(Image.fromarray(np.ascontiguousarray(colours)).convert("L"))[..., None]
    luma = (colours.astype(np.float32) @ np.array(_LUMA, dtype=np.float32))[..., None]
    return luma.round().astype(colours.dtype) if colours.dtype.kind in "iu" else luma.astype(colours.dtype)
