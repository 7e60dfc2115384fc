from __future__ import annotations

import functools

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atrous.config.schema import ModelConfig
from atrous.core.inference_options import InferenceOptions
from atrous.core.labels import LabelSpace
from atrous.inference.build import build_labeller
from atrous.inference.engine import Engine
from atrous.inference.labelling.labeller import Labeller
from atrous.inference.labelling.tiles import compute_spans
from atrous.networks.build import build_network
from atrous.networks.segmenter import Segmenter

PRIMES = [2, 3, 31, 37, 101, 251, 599]
sides = st.one_of(st.integers(1, 600), st.sampled_from([1, *PRIMES, 32, 33, 64, 65]))


@functools.cache
def build() -> Segmenter:
    torch.manual_seed(0)
    return build_network(ModelConfig(name="fcn-resnet18", weights="none"), 3)


def wrap(**evaluation: object) -> Labeller:
    return build_labeller(Engine(build(), device="cpu"), LabelSpace(("a", "b", "c")), InferenceOptions(**evaluation))


def draw_image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng((height, width)).integers(0, 256, (height, width, 3), dtype=np.uint8)


@settings(max_examples=200, deadline=None)
@given(size=st.integers(1, 3000), window=st.integers(1, 700))
def test_tiles_cover_every_pixel_with_weights_that_add_up_to_1(size: int, window: int) -> None:
    total = np.zeros(size)
    for span in compute_spans(size, window):
        assert 0 <= span.start < span.stop <= size
        assert span.stop - span.start == min(window, size)
        assert (span.weights > 0).all()
        total[span.start : span.stop] += span.weights
    np.testing.assert_allclose(total, 1, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(height=sides, width=sides, flip=st.booleans(), scale=st.sampled_from([0.5, 1.0]), finer=st.booleans())
def test_any_size_in_the_same_size_out(height: int, width: int, flip: bool, scale: float, finer: bool) -> None:
    labeller = wrap(scales=(scale,), flip=flip, window=257, output_stride=8 if finer else 16)
    indices, confidence, _ = labeller.label_image(draw_image(height, width))
    assert indices.shape == confidence.shape == (height, width)
    assert indices.max() < 3
    assert 1 / 3 - 1e-5 <= confidence.min() <= confidence.max() <= 1 + 1e-5


@settings(max_examples=12, deadline=None)
@given(height=st.integers(1, 90), width=st.integers(1, 90))
def test_sliding_equals_whole_where_one_window_fits(height: int, width: int) -> None:
    image = draw_image(height, width)
    whole, sliding = wrap().label_image(image), wrap(window=max(height, width, 33)).label_image(image)
    for before, after in zip(whole[:2], sliding[:2], strict=True):
        np.testing.assert_array_equal(before, after)
