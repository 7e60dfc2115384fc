"""Brightness, contrast, saturation and hue, as one affine map of RGB."""

from __future__ import annotations

import cv2
import numpy as np

_LARGEST_FACTOR = 0.5
_LARGEST_HUE_TURN = np.pi / 10
_GREY = np.array([0.299, 0.587, 0.114])
_TO_YIQ = np.array([_GREY, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


def jitter_colours(image: np.ndarray, strength: float, generator: np.random.Generator) -> np.ndarray:
    """Change the colours of an image at random.

    Args:
        image: The image.
        strength: From 0 (no change) to 1: brightness, contrast and saturation change by up to a half, hue by up to
            18 degrees.
        generator: Source of the four draws.
    Shapes:
        in and out (H, W, 3) uint8 RGB.
    """
    draws = generator.uniform(-strength, strength, size=4)
    brightness, contrast, saturation = 1.0 + _LARGEST_FACTOR * draws[:3]
    cosine, sine = np.cos(_LARGEST_HUE_TURN * draws[3]), np.sin(_LARGEST_HUE_TURN * draws[3])
    turn = np.array([[1.0, 0.0, 0.0], [0.0, cosine, -sine], [0.0, sine, cosine]])
    turn_hue = np.linalg.inv(_TO_YIQ) @ turn @ _TO_YIQ
    saturate = saturation * np.eye(3) + (1.0 - saturation) * np.outer(np.ones(3), _GREY)
    mean_grey = float(_GREY @ np.asarray(cv2.mean(image)[:3]))
    matrix = brightness * contrast * (saturate @ turn_hue)
    offset = brightness * (1.0 - contrast) * mean_grey
    return cv2.transform(image, np.column_stack([matrix, np.full(3, offset)]))
