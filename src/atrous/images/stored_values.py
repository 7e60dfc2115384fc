"""The numbers and colours that the file of a mask stores, never what a viewer would show for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from atrous.core.errors import DataError
from atrous.core.words import describe_count
from atrous.images.plain import load_plain_indices, read_opened

_SAMPLE_FORMAT_TAG, _SIGNED = 339, (2,)
_SCALES = {2: 85, 4: 17}
"""By what Pillow multiplies grey values of fewer than 8 bits."""
_LOSSY_FORMATS = {
    "JPEG": "a JPEG",
    "MPO": "a JPEG",
    "AVIF": "an AVIF image",
    "HEIF": "a HEIF image",
    "JXL": "a JPEG XL image",
}
"""Formats that are lossy, or do not say whether they are."""
_LOSSY_COMPRESSIONS = (6, 7, 33003, 33005, 34712, 34892, 50001, 50002)
"""Compressions of a TIFF: JPEG, JPEG 2000, DNG's lossy JPEG, WebP and JPEG XL."""
_AS_NUMBERS = "A mask holds one whole number per pixel: write grey values or palette indices."
_LOSSY = "Its values are changed at every edge; export the masks as PNG."


@dataclass(frozen=True)
class StoredMask:
    """What the file of a mask holds.

    Args:
        values: Its numbers or colours, (H, W).
        mode: Pillow's mode of the file, such as "P".
        palette: Red, green and blue of each colour of its palette in turn; empty without one.
    """

    values: np.ndarray
    mode: str
    palette: bytes


def read_numbers(image: Image.Image, name: str) -> np.ndarray:
    """Return the whole number of each pixel: a palette index, a grey value of up to 32 bits, or a float without a rest.

    Args:
        image: An opened file, not loaded yet, or an image in memory.
        name: Its name for messages.
    Returns:
        (H, W) integers: uint8 or uint16 where all values are from 0 to 65535, else of 32 or 64 bits.
    Raises:
        DataError: The image is compressed with losses, in colour, or holds numbers that are not whole.
    """
    _refuse_lossy(image, name)
    raw_mode = _find_raw_mode(image)  # before the pixels are loaded: then it is forgotten
    if image.format == "PNG" and (indices := load_plain_indices(read_opened(image))) is not None:
        return indices
    if image.mode in ("1", "P"):
        values = np.array(image, dtype=np.uint8)
        return 1 - values if raw_mode.startswith("1;I") else values
    if image.mode == "L":
        return _undo_shown(np.array(image), raw_mode, is_signed=_is_signed(image))
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if image.mode == "I":
        return _shrink(np.asarray(image))
    if image.mode == "F":
        return _shrink(_require_whole(np.asarray(image), name))
    if image.mode in ("LA", "PA", "RGB", "RGBA") and ";16" not in raw_mode:
        return _read_grey(np.asarray(image), image.mode, name)
    raise DataError(f"{name}: the mask has {describe_mode(image, raw_mode)}", _AS_NUMBERS)


def read_colours(image: Image.Image, name: str) -> np.ndarray:
    """Return the colour of each pixel as one number, red * 65536 + green * 256 + blue; alpha does not count.

    Args:
        image: An opened file, not loaded yet, or an image in memory.
        name: Its name for messages.
    Returns:
        (H, W) uint32.
    Raises:
        DataError: The image is compressed with losses, or is neither grey nor RGB nor a palette of 8 bits.
    """
    _refuse_lossy(image, name)
    raw_mode = _find_raw_mode(image)
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA") or ";16" in raw_mode:
        raise DataError(
            f"{name}: the mask has {describe_mode(image, raw_mode)}, and data.colours names colours of 8 bits",
            "Save it as PNG with 8 bits per channel.",
        )
    if image.mode in ("P", "PA"):
        indices = np.array(image)
        table = np.zeros((256, 3), dtype=np.uint32)
        palette = np.reshape(image.getpalette("RGB") or [], (-1, 3))
        table[: len(palette)] = palette
        channels = table[indices if indices.ndim == 2 else indices[..., 0]]
    else:
        channels = np.array(image.convert("RGB"), dtype=np.uint32)
    red, green, blue = np.moveaxis(channels, 2, 0)
    return np.asarray(red << 16 | green << 8 | blue)


def refuse_lossy_tiff(compression: object, name: str) -> None:
    """Refuse a mask that is compressed with losses, or may be.

    Args:
        compression: The number of its compression in the tags of the TIFF.
        name: Its name for messages.
    Raises:
        DataError: It is.
    """
    if compression in _LOSSY_COMPRESSIONS:
        message = f"{name}: the mask is compressed with losses, which blurs ids at every edge"
        raise DataError(message, _LOSSY, "lossy-mask")


def take_numbers(samples: np.ndarray, name: str) -> np.ndarray:
    """Return what `read_numbers` returns, of the samples of a TIFF.

    Args:
        samples: Its samples as stored, (H, W, S).
        name: Its name for messages.
    Raises:
        DataError: The mask is in colour, or holds numbers that are not whole.
    """
    if samples.shape[2] == 1:
        values = samples[..., 0]
        if values.dtype in (np.uint8, np.uint16):
            return values
        return _shrink(values if values.dtype.kind in "iu" else _require_whole(values, name))
    modes = {2: "LA", 3: "RGB", 4: "RGBA"}
    if samples.dtype != np.uint8 or samples.shape[2] not in modes:
        raise DataError(f"{name}: the mask has {samples.shape[2]} bands of {samples.dtype}", _AS_NUMBERS)
    return _read_grey(samples, modes[samples.shape[2]], name)


def take_colours(samples: np.ndarray, palette: np.ndarray | None, name: str, *, is_inverted: bool) -> np.ndarray:
    """Return what `read_colours` returns, of the samples of a TIFF.

    Args:
        samples: Its samples as stored, (H, W, S).
        palette: Its palette, (256, 3) uint8; None without one.
        name: Its name for messages.
        is_inverted: Whether 0 is white.
    Raises:
        DataError: The samples are not of 8 bits.
    """
    if samples.dtype != np.uint8 or not 1 <= samples.shape[2] <= 4:
        raise DataError(
            f"{name}: the mask has {samples.shape[2]} bands of {samples.dtype}, and data.colours names colours of 8 "
            "bits",
            "Save it with 8 bits per channel.",
        )
    if palette is not None:
        channels = palette.astype(np.uint32)[samples[..., 0]]
    else:
        channels = (255 - samples if is_inverted else samples).astype(np.uint32)
        channels = channels[..., :3] if samples.shape[2] >= 3 else np.repeat(channels[..., :1], 3, axis=2)
    red, green, blue = np.moveaxis(channels, 2, 0)
    return np.asarray(red << 16 | green << 8 | blue)


def describe_mode(image: Image.Image, raw_mode: str = "") -> str:
    """Return how a file stores its pixels, as text.

    Args:
        image: The image.
        raw_mode: What `image` stored before it was loaded, if known.
    """
    words = {"RGB": "RGB colours", "RGBA": "RGB colours with alpha", "CMYK": "CMYK colours", "F": "32-bit floats"}
    return ("16-bit " if ";16" in raw_mode else "") + words.get(image.mode, f"the mode {image.mode}")


def _find_raw_mode(image: Image.Image) -> str:
    """Return Pillow's name for how the file stores pixels, such as "L;4" for grey of 4 bits; empty if not known."""
    for tile in getattr(image, "tile", ()):
        arguments = tile[3]
        first = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
        return first if isinstance(first, str) else ""
    return ""


def _is_signed(image: Image.Image) -> bool:
    tags = getattr(image, "tag_v2", {})
    return bool(tags.get(_SAMPLE_FORMAT_TAG, ()) == _SIGNED)


def _undo_shown(values: np.ndarray, raw_mode: str, *, is_signed: bool) -> np.ndarray:
    """Undo what Pillow does to grey values so that they look right: it scales few bits, and inverts white-is-zero."""
    form = raw_mode.partition(";")[2].removesuffix("R")
    bits = int(form.removesuffix("I") or 8) if form.removesuffix("I").isdigit() or form in ("", "I") else 8
    values = np.asarray(values // _SCALES.get(bits, 1))
    if form.endswith("I"):
        values = np.asarray((2**bits - 1) - values)
    return np.asarray(values.view(np.int8).astype(np.int32) if is_signed else values)


def _require_whole(values: np.ndarray, name: str) -> np.ndarray:
    is_whole = np.isfinite(values) & (values == np.floor(values)) & (np.abs(values) < 2**31)
    if is_whole.all():
        return values.astype(np.int64)
    first = values[~is_whole][0]
    count = describe_count(int((~is_whole).sum()), "pixel")
    raise DataError(f"{name}: the mask holds floats that are not whole, such as {first:g} ({count})", _AS_NUMBERS)


def _shrink(values: np.ndarray) -> np.ndarray:
    if values.size and (values.min() < 0 or values.max() > np.iinfo(np.uint16).max):
        return values
    return values.astype(np.uint16)


def _read_grey(channels: np.ndarray, mode: str, name: str) -> np.ndarray:
    """Return the grey values of a mask that is saved with three channels or with alpha."""
    colours = channels[..., :3] if mode in ("RGB", "RGBA") else channels[..., :1]
    if (colours != colours[..., :1]).any():
        raise _describe_colours(name, colours)
    values = colours[..., 0].copy()
    alpha = channels[..., -1]
    if mode != "RGB" and values.size and values.min() == values.max() and alpha.min() != alpha.max():
        raise DataError(
            f"{name}: the mask is in the alpha channel: the value is {values[0, 0]} at every pixel",
            "Save the alpha channel as grey values.",
            "alpha-mask",
        )
    return values


def _refuse_lossy(image: Image.Image, name: str) -> None:
    compression = image.info.get("compression", "")
    if image.format in _LOSSY_FORMATS or compression in ("jpeg", "tiff_jpeg", "webp"):
        kind = _LOSSY_FORMATS.get(image.format or "", f"compressed as {compression}")
        raise DataError(f"{name}: the mask is {kind}, which blurs ids at every edge", _LOSSY, "lossy-mask")


def _describe_colours(name: str, channels: np.ndarray) -> DataError:
    colours, counts = np.unique(channels.reshape(-1, 3), axis=0, return_counts=True)
    first = ", ".join(
        f"({r}, {g}, {b}) {describe_count(int(counts[i]), 'pixel')}"
        for i in np.argsort(-counts)[:3]
        for r, g, b in [colours[i].tolist()]
    )
    return DataError(
        f"{name}: a mask in colour, {describe_count(len(colours), 'colour')}: {first}",
        "Say which colour is which id with `data.colours`, such as {[255, 0, 0]: 1}.",
        "colour-mask",
    )
