from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from atrous.core.errors import ConfigError
from atrous.networks.contracts import FeatureLevel, FeatureShapes
from atrous.networks.heads.deeplabv3 import DeepLabV3Head
from atrous.networks.layers.aspp import ASPP
from atrous.networks.layers.conv import AtrousConv

SHAPES = FeatureShapes((FeatureLevel(4, 4), FeatureLevel(8, 32)))


def convolve(features: np.ndarray, weights: np.ndarray, rate: int) -> np.ndarray:
    """Compute y[i] = sum over k of x[i + r k] w[k], tap by tap, with zeros outside."""
    outputs, inputs, size, _ = weights.shape
    _, height, width = features.shape
    result = np.zeros((outputs, height, width))
    for row in range(height):
        for column in range(width):
            for i in range(size):
                for j in range(size):
                    y, x = row + rate * (i - size // 2), column + rate * (j - size // 2)
                    if 0 <= y < height and 0 <= x < width:
                        result[:, row, column] += weights[:, :, i, j] @ features[:, y, x]
    assert inputs == features.shape[0]
    return result


def apply_norm_and_relu(values: np.ndarray, norm: nn.BatchNorm2d) -> np.ndarray:
    scale, shift, mean, var = (
        t.detach().numpy()[:, None, None] for t in (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    )
    return np.maximum((values - mean) / np.sqrt(var + norm.eps) * scale + shift, 0)


def draw_norms(module: nn.Module) -> None:
    with torch.no_grad():
        for norm in module.modules():
            if isinstance(norm, nn.BatchNorm2d):
                for values in (norm.running_mean, norm.bias):
                    values.normal_()
                for values in (norm.running_var, norm.weight):
                    values.uniform_(0.5, 2)


@pytest.mark.parametrize("rate", [1, 2, 3, 5, 9])
def test_atrous_convolution_is_the_papers_sum(rate: int) -> None:
    torch.manual_seed(rate)
    layer = AtrousConv(3, 4, rate=1).double().eval()
    draw_norms(layer)
    layer.set_rate(rate)
    features = torch.randn(1, 3, 7, 8, dtype=torch.float64)
    with torch.inference_mode():
        found = layer(features)[0].numpy()
    raw = convolve(features[0].numpy(), layer.spatial.conv.weight.detach().numpy(), rate)
    np.testing.assert_allclose(found, apply_norm_and_relu(raw, layer.spatial.norm), rtol=1e-10, atol=1e-10)


def test_a_separable_layer_filters_each_channel_then_mixes() -> None:
    torch.manual_seed(0)
    layer = AtrousConv(3, 4, rate=2, separable=True).double().eval()
    draw_norms(layer)
    features = torch.randn(1, 3, 6, 5, dtype=torch.float64)
    weights = layer.spatial.conv.weight.detach().numpy()
    filtered = np.concatenate([convolve(features[0, c : c + 1].numpy(), weights[c : c + 1], rate=2) for c in range(3)])
    filtered = apply_norm_and_relu(filtered, layer.spatial.norm)
    mixed = np.einsum("oi,ihw->ohw", layer.pointwise.conv.weight.detach().numpy()[:, :, 0, 0], filtered)
    with torch.inference_mode():
        found = layer(features)[0].numpy()
    np.testing.assert_allclose(found, apply_norm_and_relu(mixed, layer.pointwise.norm), rtol=1e-10, atol=1e-10)


def test_aspp_is_its_branches_side_by_side() -> None:
    torch.manual_seed(0)
    aspp = ASPP(3, 4, rates=(1, 2)).double().eval()
    draw_norms(aspp)
    features = torch.randn(1, 3, 6, 7, dtype=torch.float64)
    plain = features[0].numpy()

    def project(layer: nn.Module, values: np.ndarray) -> np.ndarray:
        mixed = np.einsum("oi,ihw->ohw", layer.conv.weight.detach().numpy()[:, :, 0, 0], values)
        return apply_norm_and_relu(mixed, layer.norm)

    branches = [project(aspp.point, plain)]
    for branch, rate in zip(aspp.atrous, (1, 2), strict=True):
        raw = convolve(plain, branch.spatial.conv.weight.detach().numpy(), rate)
        branches.append(apply_norm_and_relu(raw, branch.spatial.norm))
    pooled = project(aspp.pooling, plain.mean(axis=(1, 2), keepdims=True))
    branches.append(np.broadcast_to(pooled, (4, 6, 7)))
    expected = project(aspp.projection, np.concatenate(branches))
    with torch.inference_mode():
        np.testing.assert_allclose(aspp(features)[0].numpy(), expected, rtol=1e-10, atol=1e-10)


def count(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


@pytest.mark.parametrize("rates", [(6, 12, 18), (6, 12, 18, 24)])
@pytest.mark.parametrize("image_features", [True, False])
def test_weights_by_the_papers_arithmetic(rates: tuple[int, ...], image_features: bool) -> None:
    with torch.device("meta"):
        aspp = ASPP(2048, 256, rates=rates, image_features=image_features)
    norm = 2 * 256
    branches = 1 + len(rates) + image_features
    expected = (1 + image_features) * (2048 * 256 + norm) + len(rates) * (9 * 2048 * 256 + norm)
    assert count(aspp) == expected + branches * 256 * 256 + norm


def test_separable_weights_by_arithmetic() -> None:
    with torch.device("meta"):
        aspp = ASPP(2048, 256, rates=(6, 12, 18), separable=True)
    norm = 2 * 256
    branch = 9 * 2048 + 2 * 2048 + 2048 * 256 + norm
    assert count(aspp) == 2 * (2048 * 256 + norm) + 3 * branch + 5 * 256 * 256 + norm


def test_the_head_ends_in_one_score_a_class() -> None:
    head = DeepLabV3Head(SHAPES, 7, channels=16, refinement=True).eval()
    levels = [torch.randn(2, 4, 40, 40), torch.randn(2, 8, 5, 6)]
    assert head(levels).shape == (2, 7, 5, 6)
    assert count(head.classifier) == 16 * 7 + 7
    assert count(head.refinement) == 9 * 16 * 16 + 2 * 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rates": ()}, "rates"),
        ({"rates": (6, 0)}, "rates"),
        ({"channels": 0}, "channels 0"),
        ({"dropout": 1.0}, r"dropout 1\.0"),
        ({"dropout": float("nan")}, "dropout nan"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DeepLabV3Head(SHAPES, 7, **options)
