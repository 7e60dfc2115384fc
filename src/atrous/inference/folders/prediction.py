"""What labelling an image gives."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from atrous.core.arguments import refuse_wrong_types
from atrous.core.errors import MachineError, UsageError
from atrous.core.files import read_stamp
from atrous.core.inputs import PHOTO, ImageForm
from atrous.core.labels import LabelSpace
from atrous.core.output_folder import open_folder
from atrous.images.bands import stretch_bands
from atrous.images.encode import (
    draw_overlay,
    encode_png,
    save_confidence,
    save_index_image,
    save_overlay,
    save_probabilities,
)
from atrous.images.legend import draw_legend
from atrous.images.place import is_georeferenced
from atrous.inference import PLACED_FORMATS
from atrous.inference.folders.inputs import ImageFile, require_safe_output
from atrous.inference.folders.record import FolderRecord

SHOWN_PX, LEAST_LEGEND_PX = 768, 320
"""Longest side of the overlay that a notebook shows, and least width of its legend."""
_SHOWN_CLASSES = 3


def keeps_place(image: Path) -> bool:
    """Whether the labels of an image are written as a GeoTIFF: it is upright, and what writes them is installed."""
    if not is_georeferenced(image):
        return False
    try:
        PLACED_FORMATS.load("tiff")
    except MachineError:
        return False
    return True


@dataclass(frozen=True)
class OutputForm:
    """The files that a prediction is written as.

    Args:
        palette: Whether the labels have the colours of the classes as their palette; they are grey otherwise.
        overlay: Whether there is the image with its labels over it.
        confidence: Whether there is the confidence.
        probabilities: Whether there are the probabilities of every class.
    """

    palette: bool = False
    overlay: bool = True
    confidence: bool = False
    probabilities: bool = False

    def list_names(self, key: str, source: Path | None = None) -> list[str]:
        """Return the names of the files, that of the labels first.

        Args:
            key: What they begin with, a path without suffix.
            source: The image's file; labels of a GeoTIFF are one too.
        """
        names = [f"{key}{'.tif' if source is not None and keeps_place(source) else '.png'}"]
        names += [f"{key}_overlay.jpg"] * self.overlay
        names += [f"{key}_confidence.png"] * self.confidence
        names += [f"{key}_probabilities.npy"] * self.probabilities
        return names


@dataclass(frozen=True, eq=False, repr=False)
class Prediction:
    """The labels of one image.

    Args:
        key: What the files are called, a path without suffix such as "a/photo".
        image: What was labelled, upright: turned as its EXIF orientation says; (H, W, 3) uint8, or (H, W, C) in `form`.
        labels: (H, W) uint8 or uint16 ids of the data; the id of void where the confidence was too small.
        confidence: (H, W) float32 in [0, 1], the probability of the class given; None where it was not asked for, or
            the model is an exported file that gives labels alone.
        probabilities: (K, H, W) float16 where asked for, else None.
        label_space: Names, ids and colours of the classes.
        window: Side in pixels of the windows that were labelled one by one, or None for the whole image at once.
        source: The image's file, or None for an image in memory.
        form: What the image is.
        is_missing: (H, W) bool, its pixels without data; None if there are none.
    """

    key: str
    image: np.ndarray
    labels: np.ndarray
    confidence: np.ndarray | None
    probabilities: np.ndarray | None
    label_space: LabelSpace
    window: int | None = None
    source: Path | None = None
    form: ImageForm = PHOTO
    is_missing: np.ndarray | None = None

    def __repr__(self) -> str:
        height, width = self.labels.shape
        ids, counts = np.unique(self.labels, return_counts=True)
        names = dict(zip(self.label_space.ids, self.label_space.names, strict=True))
        most = np.argsort(-counts, kind="stable")
        shares = [f"{names.get(int(ids[i]), 'void')} {counts[i] / self.labels.size:.0%}" for i in most[:_SHOWN_CLASSES]]
        more = f", and {len(most) - _SHOWN_CLASSES} more" if len(most) > _SHOWN_CLASSES else ""
        return f"Prediction({self.key!r}, {height} x {width} pixels, {', '.join(shares)}{more})"

    def _repr_png_(self) -> bytes:
        """Return the image with its labels over it and a legend, which a notebook shows."""
        step = -(-max(self.labels.shape) // SHOWN_PX)
        labels = self.labels[::step, ::step]
        image = stretch_bands(np.ascontiguousarray(self.image[::step, ::step]), self.form)
        overlay = draw_overlay(image, labels, self.label_space)
        space, found = self.label_space, set(np.unique(self.labels).tolist())
        classes = zip(space.names, space.colours, space.ids, strict=True)
        width = max(overlay.shape[1], LEAST_LEGEND_PX)
        legend = draw_legend([(name, colour) for name, colour, number in classes if number in found], width)
        shown = np.full((len(overlay) + len(legend), width, 3), 255, np.uint8)
        shown[: len(overlay), : overlay.shape[1]] = overlay
        shown[len(overlay) :] = legend
        return encode_png(shown)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes by index, not by id."""
        return self.label_space.names

    @refuse_wrong_types
    def save(
        self,
        folder: str | Path,
        *,
        overlay: bool = True,
        confidence: bool = False,
        palette: bool = False,
        overwrite: bool = False,
    ) -> list[Path]:
        """Write `<key>.png`, whose pixel values are ids, and what else is wanted; and probabilities if there are any.

        Labels of a GeoTIFF are written as `<key>.tif`, at the same place on the Earth.

        Args:
            folder: Where to; made where it does not exist.
            overlay: Whether to write the image with its labels over it, `<key>_overlay.jpg`.
            confidence: Whether to write `<key>_confidence.png`, 255 for 1.
            palette: Whether the labels have the class colours as their palette, which many libraries read as colours.
                Default: grey, which all of them read as ids.
            overwrite: Whether to replace files that atrous did not write there, or that were changed since.
        Returns: The files.
        Raises:
            UsageError: The confidence is wanted, and there is none; the folder is that of the image, or cannot be made;
                or a file would be lost.
            MachineError: The folder cannot be written.
        """
        if confidence and self.confidence is None:
            raise UsageError(
                "confidence: the model is a file that gives labels alone",
                "Export the model again, without `argmax=True`.",
            )
        form = OutputForm(palette, overlay, confidence, self.probabilities is not None)
        place, names = Path(folder), form.list_names(self.key, self.source)
        if self.source is not None:
            require_safe_output([], [ImageFile(self.source, self.key)], place)
        row, record = self.describe(names), FolderRecord(place)
        with open_folder(place):
            is_new = not any(
                read_stamp(place / name, follow_links=False) for name in names
            )  # then nothing need be known of the folder
            if not (is_new or overwrite):
                record.require_free({row["input"]: names})
            outdated = [] if is_new else record.list_outdated(row)
            record.claim(names)
            files = self.write(place, form)
            record.add(row)
        for path in outdated:
            path.unlink(missing_ok=True)
        return files

    def describe(self, names: list[str]) -> dict[str, Any]:
        """Return the row of this prediction in the record of its folder.

        Args:
            names: Its files, below the folder.
        """
        return describe_files(self.source or self._name_image(), names, self.labels.shape, self.window)

    def _name_image(self) -> str:
        return f"in memory, sha256 {hashlib.sha256(self.image.tobytes()).hexdigest()[:16]}"

    def write(self, folder: Path, form: OutputForm) -> list[Path]:
        """Write the files, whatever they replace.

        Args:
            folder: Where to.
            form: Which files.
        Returns: The files, that of the labels first.
        """
        files = [folder / name for name in form.list_names(self.key, self.source)]
        rest = iter(files[1:])
        palette = self.label_space if form.palette else None
        if files[0].suffix == ".tif" and self.source is not None:
            void_id = None if self.is_missing is None else self.label_space.void_id
            PLACED_FORMATS.load("tiff")(files[0], self.labels, self.source, palette, void_id=void_id)
        else:
            save_index_image(files[0], self.labels, palette)
        if form.overlay:
            save_overlay(next(rest), draw_overlay(stretch_bands(self.image, self.form), self.labels, self.label_space))
        if form.confidence and self.confidence is not None:
            save_confidence(next(rest), self.confidence)
        if form.probabilities and self.probabilities is not None:
            save_probabilities(next(rest), self.probabilities)
        return files


def describe_files(
    image: Path | str, names: list[str], size: tuple[int, ...], window: int | None, **more: Any
) -> dict[str, Any]:
    """Return the row of an image in the record of its folder.

    Args:
        image: The image's file, or words for an image in memory.
        names: The files of its labels, below the folder.
        size: Height and width in pixels.
        window: Side of the windows in pixels, or None.
        more: Other columns.
    """
    name = str(image.absolute()) if isinstance(image, Path) else image
    return {"input": name, "files": names, "height": size[0], "width": size[1], "window": window, **more}
