"""How far confidences can be trusted, and what a training chose on its validation images besides weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from atrous.core.arguments import require_field_types


@dataclass(frozen=True)
class Chosen:
    """What a training chose on its validation images, as the model file keeps it.

    Args:
        temperature: What log-probabilities are divided by before they become a confidence. Above 1 it lowers the
            confidence. Labels do not depend on it.
        data: Name of the images, such as "camvid val"; empty if nothing was chosen.
        reason: Why the temperature is 1, if it was to be chosen.
        threshold: Of two classes: the probability of the second one from which on labelling it has the best F1, and so
            the best IoU, there; before the temperature. None for other models.
    """

    temperature: float = 1.0
    data: str = ""
    reason: str = ""
    threshold: float | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Chosen:
        """Build from the fields as JSON; unknown ones, of later versions, are ignored.

        Raises:
            ValueError: A value has another type, the temperature is not positive, or the threshold no probability.
        """
        known = {name: value[name] for name in cls.__dataclass_fields__ if name in value}
        require_field_types(cls, known)
        chosen = cls(**known)
        temperature, threshold = float(chosen.temperature), chosen.threshold
        if not (temperature > 0 and math.isfinite(temperature)):
            raise ValueError(f"temperature {chosen.temperature!r}")
        if threshold is not None and not 0 <= float(threshold) <= 1:
            raise ValueError(f"threshold {threshold!r}")
        return chosen

    def describe(self) -> str:
        """Say the temperature and where it comes from; empty if none was to be chosen."""
        if self.temperature != 1.0:
            return f"temperature {self.temperature:.3g}, chosen on {self.data}"
        return f"temperature 1: {self.reason}" if self.reason else ""

    def describe_use(self) -> str:
        """Say what was chosen on the validation images, to be read beside scores on these."""
        chosen = {"weights": True, "temperature": self.data, "threshold": self.threshold is not None}
        names = " and ".join(f"the {name}" for name, is_chosen in chosen.items() if is_chosen)
        return f"{names} were chosen on these images; expect lower scores on others"


@dataclass(frozen=True)
class ReliabilityBin:
    """Pixels whose confidence is in one of the equal parts of [0, 1].

    Args:
        pixels: How many.
        confidence: Mean of their confidences.
        accuracy: Share of them that are labelled correctly.
    """

    pixels: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class CoverageRow:
    """What is left of the pixels below a least confidence.

    Args:
        min_confidence: The least confidence.
        coverage: Share of the pixels that have it.
        accuracy: Share of these that are labelled correctly; None if there are none.
    """

    min_confidence: float
    coverage: float
    accuracy: float | None


@dataclass(frozen=True)
class Calibration:
    """How well confidences tell how many labels are correct, counted on a grid of pixels of each image.

    Args:
        chosen: The temperature of the confidences, and where it comes from.
        pixels: Number of pixels.
        error: Expected calibration error: the mean over pixels of |confidence - accuracy| of their part of [0, 1].
        error_before: The same with temperature 1.
        bins: The parts of [0, 1] that have pixels, in ascending order.
        coverage: Coverage against accuracy for some values of `min_confidence`.
    """

    chosen: Chosen
    pixels: int
    error: float
    error_before: float
    bins: tuple[ReliabilityBin, ...]
    coverage: tuple[CoverageRow, ...]

    def describe(self) -> str:
        """Say the error and the temperature in one sentence."""
        text = f"expected calibration error {self.error:.4f}"
        if self.chosen.temperature != 1.0:
            text += f" ({self.error_before:.4f} without the temperature)"
        how = self.chosen.describe()
        return f"{text}; {how}" if how else text

    @classmethod
    def from_json(cls, value: Mapping[str, Any] | None) -> Calibration | None:
        """Build from the form that `asdict` gives it; None for records without it."""
        if value is None:
            return None
        return cls(
            chosen=Chosen.from_json(value["chosen"]),
            pixels=value["pixels"],
            error=value["error"],
            error_before=value["error_before"],
            bins=tuple(ReliabilityBin(**row) for row in value["bins"]),
            coverage=tuple(CoverageRow(**row) for row in value["coverage"]),
        )


@dataclass(frozen=True)
class ThresholdRow:
    """The second of two classes, where pixels from some probability of it on are labelled as it.

    Args:
        threshold: The least probability, before the temperature.
        precision: Share of the pixels labelled as it that are of it; None if there are none.
        recall: Share of its pixels that are labelled as it.
        f1: Their harmonic mean; of one class this is the Dice coefficient.
        iou: Its IoU, which is largest where F1 is.
    """

    threshold: float
    precision: float | None
    recall: float
    f1: float
    iou: float


@dataclass(frozen=True)
class Foreground:
    """Precision against recall of the second of two classes, counted on a grid of pixels of each image.

    Args:
        name: Name of the class.
        best: The threshold with the best F1 and IoU on these images.
        rows: For thresholds in ascending order.
    """

    name: str
    best: ThresholdRow
    rows: tuple[ThresholdRow, ...]

    def describe(self) -> str:
        """Say the best threshold in one sentence, and what it is worth beside the likelier class."""
        half = next(row for row in self.rows if row.threshold == 0.5)
        return (
            f"{self.name!r} from a probability of {self.best.threshold:.3f} on has the best F1, {self.best.f1:.4f} "
            f"(IoU {self.best.iou:.4f}), on these images; from 0.5 on it is {half.f1:.4f} (IoU {half.iou:.4f})"
        )

    @classmethod
    def from_json(cls, value: Mapping[str, Any] | None) -> Foreground | None:
        """Build from the form that `asdict` gives it; None for records without it."""
        if value is None:
            return None
        rows = tuple(ThresholdRow(**row) for row in value["rows"])
        return cls(value["name"], ThresholdRow(**value["best"]), rows)
