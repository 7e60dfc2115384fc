from __future__ import annotations

import colorsys

import numpy as np
import pytest

from atrous.data.augment.photometric import jitter_colours


class Fixed:
    """Gives the same draws, so that one change can be looked at alone."""

    def __init__(self, *draws: float) -> None:
        self.draws = np.array(draws)

    def uniform(self, low: float, high: float, size: int) -> np.ndarray:
        return self.draws * high


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(60, 160, (12, 9, 3), dtype=np.uint8)


def test_strength_0_changes_nothing(image):
    np.testing.assert_array_equal(jitter_colours(image, 0.0, np.random.default_rng(0)), image)


def test_brightness_alone(image):
    np.testing.assert_allclose(jitter_colours(image, 1.0, Fixed(0.4, 0, 0, 0)), image * 1.2, atol=0.51)


def test_contrast_alone(image):
    mean = (image @ np.array([0.299, 0.587, 0.114])).mean()
    wanted = mean + 0.6 * (image - mean)
    np.testing.assert_allclose(jitter_colours(image, 1.0, Fixed(0, -0.8, 0, 0)), wanted, atol=0.51)


def test_saturation_alone(image):
    grey = (image @ np.array([0.299, 0.587, 0.114]))[..., None]
    np.testing.assert_allclose(jitter_colours(image, 1.0, Fixed(0, 0, -1.0, 0)), grey + 0.5 * (image - grey), atol=0.52)


def test_hue_turns_colours_and_leaves_grey(image):
    colour = np.full((2, 2, 3), (140, 100, 100), np.uint8)
    turned = jitter_colours(colour, 1.0, Fixed(0, 0, 0, 1.0))[0, 0]
    before, after = (colorsys.rgb_to_hsv(*(rgb / 255.0)) for rgb in (colour[0, 0], turned))
    degrees = ((after[0] - before[0] + 0.5) % 1.0 - 0.5) * 360
    assert 8 < abs(degrees) < 28
    grey = np.full((2, 2, 3), 90, np.uint8)
    np.testing.assert_allclose(jitter_colours(grey, 1.0, Fixed(0, 0, 0, 1.0)), grey, atol=1)


def test_bright_colours_saturate_instead_of_wrapping():
    white = np.full((2, 2, 3), 250, np.uint8)
    assert (jitter_colours(white, 1.0, Fixed(1.0, 0, 0, 0)) == 255).all()
