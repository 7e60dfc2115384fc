"""What labelling an image gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atrous.core.errors import UsageError
from atrous.core.labels import LabelSpace
from atrous.images.encode import (
    draw_overlay,
    save_confidence,
    save_index_image,
    save_overlay,
    save_probabilities,
)


@dataclass(frozen=True, eq=False)
class Prediction:
    """The labels of one image.

    Args:
        key: What the files are called, a path without suffix such as "a/photo".
        image: (H, W, 3) uint8, what was labelled.
        labels: (H, W) uint8 or uint16 ids of the data; the id of void where the confidence was too small.
        confidence: (H, W) float32 in [0, 1], the probability of the class given; None where it was not asked for, or
            the model is an exported file that gives labels alone.
        probabilities: (K, H, W) float16 where asked for, else None.
        label_space: Names, ids and colours of the classes.
        window: Side in pixels of the windows that were labelled one by one, or None for the whole image at once.
    """

    key: str
    image: np.ndarray
    labels: np.ndarray
    confidence: np.ndarray | None
    probabilities: np.ndarray | None
    label_space: LabelSpace
    window: int | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes by index, not by id."""
        return self.label_space.names

    def save(self, folder: str | Path, *, overlay: bool = True, confidence: bool = False) -> list[Path]:
        """Write `<key>.png` and what else is wanted; probabilities are written where there are any.

        Args:
            folder: Where to; made where it does not exist.
            overlay: Whether to write the image with its labels over it, `<key>_overlay.jpg`.
            confidence: Whether to write `<key>_confidence.png`, 255 for 1.
        Returns: The files.
        Raises:
            UsageError: The confidence is wanted, and there is none.
        """
        if confidence and self.confidence is None:
            raise UsageError("confidence: the model is a file that gives labels alone", "Export it without --argmax.")
        stem = Path(folder) / self.key
        files = [stem.with_name(f"{stem.name}.png")]
        save_index_image(files[0], self.labels, self.label_space)
        if overlay:
            files.append(stem.with_name(f"{stem.name}_overlay.jpg"))
            save_overlay(files[-1], draw_overlay(self.image, self.labels, self.label_space))
        if confidence and self.confidence is not None:
            files.append(stem.with_name(f"{stem.name}_confidence.png"))
            save_confidence(files[-1], self.confidence)
        if self.probabilities is not None:
            files.append(stem.with_name(f"{stem.name}_probabilities.npy"))
            save_probabilities(files[-1], self.probabilities)
        return files
