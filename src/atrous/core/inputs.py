"""What a network takes in: bands of images, their values, and the statistics that normalise them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from atrous.core.words import describe_count

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
DTYPE_RANGES = {"uint8": (0.0, 255.0), "uint16": (0.0, 65535.0), "float32": (0.0, 1.0)}
"""Types of images in memory, each with the values that are 0 and 1 by default."""
MOST_BANDS = 1024


@dataclass(frozen=True)
class ImageForm:
    """How image files become arrays (H, W, C): which of their bands, in which type.

    Args:
        bands: "rgb" or "grey", made of the colours of the file, or the bands to take, counted from 0.
        dtype: Type of the array, a key of `DTYPE_RANGES`. Integers of other types than uint8 and uint16 are float32.
        value_range: Stored values that are mapped to 0 and 1; the lower one comes first.
        page: Page of files with several, from 1. None: such files are refused.
    Raises:
        ValueError: A field is out of its range.
    """

    bands: Literal["rgb", "grey"] | tuple[int, ...] = "rgb"
    dtype: str = "uint8"
    value_range: tuple[float, float] = DTYPE_RANGES["uint8"]
    page: int | None = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPE_RANGES:
            raise ValueError(f"dtype {self.dtype!r}: one of {', '.join(DTYPE_RANGES)}")
        if not self.value_range[0] < self.value_range[1]:
            raise ValueError(f"value_range {self.value_range} must rise")
        if isinstance(self.bands, tuple):
            if not 1 <= len(self.bands) <= MOST_BANDS or not all(band >= 0 for band in self.bands):
                raise ValueError(f"bands {self.bands}: one or more, from 0")
        elif self.bands not in ("rgb", "grey"):
            raise ValueError(f"bands {self.bands!r}: rgb, grey or numbers")
        if self.page is not None and self.page < 1:
            raise ValueError(f"page {self.page}: from 1")

    @property
    def channels(self) -> int:
        """Number of bands C."""
        return len(self.bands) if isinstance(self.bands, tuple) else {"rgb": 3, "grey": 1}[self.bands]

    @property
    def is_photo(self) -> bool:
        """Whether images are RGB of 8 bits, as the weights of published networks expect them."""
        return (self.bands, self.dtype, self.value_range) == ("rgb", "uint8", DTYPE_RANGES["uint8"])

    @property
    def visible_bands(self) -> tuple[int, ...]:
        """Bands of the array that people see as red, green and blue: the first three, or the first one as grey."""
        return (0, 1, 2) if self.channels >= 3 else (0,)

    def describe(self) -> str:
        """Return the form as text, such as "5 bands of uint16"."""
        name = "RGB" if self.bands == "rgb" else "grey" if self.bands == "grey" else ""
        return f"{name or describe_count(self.channels, 'band')} of {self.dtype}"

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ImageForm:
        """Build a form of `to_json`'s form.

        Raises:
            KeyError, TypeError, ValueError: It is of another form.
        """
        bands, page = value["bands"], value["page"]
        low, high = value["value_range"]
        return cls(
            bands if isinstance(bands, str) else tuple(int(band) for band in bands),  # type: ignore[arg-type]
            str(value["dtype"]),
            (float(low), float(high)),
            None if page is None else int(page),
        )


PHOTO = ImageForm()
"""RGB of 8 bits."""


@dataclass(frozen=True)
class InputSpec:
    """The images that a network was made for.

    Args:
        mean: Mean of each band after its values are mapped to [0, 1], (C,).
        std: Standard deviation of each band likewise, each above 0, (C,).
        form: How files become such images.
    Raises:
        ValueError: Fields that contradict each other.
    """

    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    form: ImageForm = PHOTO

    def __post_init__(self) -> None:
        if not self.mean or len(self.mean) != len(self.std) or not min(self.std) > 0:
            raise ValueError(f"mean {self.mean} and std {self.std} must have one number per band, std above 0")
        if len(self.mean) != self.form.channels:
            raise ValueError(f"mean {self.mean}: {self.form.describe()} need {self.form.channels}")

    @property
    def channels(self) -> int:
        """Number of bands."""
        return self.form.channels

    @property
    def stored_mean(self) -> tuple[float, ...]:
        """Mean of each band as files store it, (C,)."""
        low, high = self.form.value_range
        return tuple(low + mean * (high - low) for mean in self.mean)
