"""Labels, overlays, confidence and probabilities as files, each of them whole or not there."""

from __future__ import annotations

import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from atrous.core.files import atomic_path
from atrous.core.labels import VOID_COLOUR, LabelSpace

OVERLAY_STRENGTH = 0.55
"""Share of the class's colour in an overlay; the rest is the image."""
BORDER_COLOUR = (255, 255, 255)
LONGEST_JPEG_SIDE = 65500


def save_index_image(path: Path, labels: np.ndarray, label_space: LabelSpace) -> None:
    """Write ids as pixel values of a PNG: with the classes' colours as its palette, or 16-bit grey for large ids.

    Runs of equal pixels are all that is compressed: label maps have little else, and the usual search for repeated
    patterns takes three times as long.

    Shapes:
        labels (H, W) uint8 or uint16.
    """
    image = Image.fromarray(labels)
    if labels.dtype == np.uint8:
        image.putpalette(build_colour_table(label_space, 256).tobytes())
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG", compress_type=zlib.Z_RLE)


def build_colour_table(label_space: LabelSpace, length: int) -> np.ndarray:
    """Return the colour of each id, (length, 3) uint8; ids that are no class have the colour of void."""
    table = np.full((length, 3), VOID_COLOUR, dtype=np.uint8)
    table[list(label_space.ids)] = label_space.colours
    return table


def draw_overlay(image: np.ndarray, labels: np.ndarray, label_space: LabelSpace) -> np.ndarray:
    """Return the image with each class's colour over it and thin borders between classes, (H, W, 3) uint8.

    Pixels of ignored ids show the image alone.
    """
    colours = build_colour_table(label_space, 65536)[labels]
    drawn = cv2.addWeighted(image, 1 - OVERLAY_STRENGTH, colours, OVERLAY_STRENGTH, 0)
    ignored = np.isin(labels, label_space.ids, invert=True)
    drawn[ignored] = image[ignored]
    drawn[find_borders(labels)] = BORDER_COLOUR
    return drawn


def find_borders(labels: np.ndarray) -> np.ndarray:
    """Return the pixels whose right or lower neighbour has another label, thicker on large images, (H, W) bool."""
    borders = np.zeros(labels.shape, dtype=np.uint8)
    borders[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    borders[:-1] |= labels[:-1] != labels[1:]
    thickness = 1 + min(labels.shape) // 1000
    return cv2.dilate(borders, np.ones((thickness, thickness), np.uint8)).astype(bool)


def save_overlay(path: Path, drawn: np.ndarray) -> None:
    """Write a drawn image as JPEG, made smaller where it is longer than a JPEG can be."""
    image = Image.fromarray(drawn)
    image.thumbnail((LONGEST_JPEG_SIDE, LONGEST_JPEG_SIDE))
    with atomic_path(path) as temporary:
        image.save(temporary, format="JPEG", quality=90)


def save_confidence(path: Path, confidence: np.ndarray) -> None:
    """Write confidence as grey PNG, 255 for 1."""
    with atomic_path(path) as temporary:
        Image.fromarray(np.rint(confidence * 255).astype(np.uint8)).save(temporary, format="PNG")


def save_probabilities(path: Path, probabilities: np.ndarray) -> None:
    """Write probabilities as a numpy file, (K, H, W) float16."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, probabilities.astype(np.float16))
