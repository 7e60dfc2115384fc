"""What a network takes in: bands, their values, and the statistics that normalise them."""

from __future__ import annotations

from dataclasses import dataclass

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class InputSpec:
    """The images that a network was made for.

    Args:
        mean: Mean of each band after its values are mapped to [0, 1], (C,).
        std: Standard deviation of each band likewise, each above 0, (C,).
        dtype: Type of the stored values, "uint8" or "uint16".
        value_range: Stored values that are mapped to 0 and 1; the lower one comes first.
        visible_bands: Bands shown to people as red, green and blue, counted from 0; one band is shown as grey.
    Raises:
        ValueError: Fields that contradict each other.
    """

    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    dtype: str = "uint8"
    value_range: tuple[float, float] = (0.0, 255.0)
    visible_bands: tuple[int, ...] = (0, 1, 2)

    def __post_init__(self) -> None:
        if not self.mean or len(self.mean) != len(self.std) or min(self.std) <= 0:
            raise ValueError(f"mean {self.mean} and std {self.std} must have one number per band, std above 0")
        if self.value_range[0] >= self.value_range[1]:
            raise ValueError(f"value_range {self.value_range} must rise")
        if len(self.visible_bands) not in (1, 3) or not all(0 <= b < self.channels for b in self.visible_bands):
            raise ValueError(f"visible_bands {self.visible_bands}: one or three of 0 to {self.channels - 1}")

    @property
    def channels(self) -> int:
        """Number of bands."""
        return len(self.mean)
