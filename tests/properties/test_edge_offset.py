"""Where an edge in the image comes out in the labels: on the edge, at every stride and scale."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from atrous.core.inputs import InputSpec
from atrous.networks.contracts import Backbone, FeatureLevel, FeatureShapes, Head
from atrous.networks.layers.resize import enlarge_logits, scale_image
from atrous.networks.segmenter import Segmenter

HEIGHT, WIDTH = 161, 209
"""Not 32k + 1 along the width, so that padding is there."""


class Smoothing(Backbone):
    """Linear: five strided 3x3 windows (1 2 1) / 4 a side, so that a cell is a wide average around its pixel."""

    input_spec = InputSpec(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

    def __init__(self) -> None:
        super().__init__()
        self.feature_shapes = FeatureShapes((FeatureLevel(3, 32),))
        self.layers = nn.Sequential(*(nn.Conv2d(3, 3, 3, stride=2, padding=1, groups=3, bias=False) for _ in range(5)))
        window = torch.tensor([1.0, 2.0, 1.0]) / 4
        for layer in self.layers:
            layer.weight.data = (window[:, None] * window[None, :]).expand(3, 1, 3, 3).clone()

    def forward(self, image: Tensor) -> list[Tensor]:
        return [self.layers(image)]


class BrightOrDark(Head):
    """Two classes, whose logits are the brightness and its negative."""

    def forward(self, features, inside=None):
        brightness = features[-1].mean(dim=1, keepdim=True)
        return torch.cat([-brightness, brightness], dim=1)


def build(resize: str, output_stride: int) -> Segmenter:
    backbone = Smoothing()
    network = Segmenter(backbone, BrightOrDark(), num_classes=2, resize=resize, output_stride=output_stride)
    return network.eval()


def find_crossing(difference: Tensor) -> Tensor:
    """Return where each row (n, W) crosses zero going up, in pixels, between pixels by interpolation."""
    before, after = difference[:, :-1], difference[:, 1:]
    crossings = (before < 0) & (after >= 0)
    assert (crossings.sum(dim=1) == 1).all()
    column = crossings.float().argmax(dim=1, keepdim=True)
    low, high = before.gather(1, column), after.gather(1, column)
    return (column + low / (low - high)).squeeze(1)


def measure_offset(
    network: Segmenter,
    first_edge: int,
    scale: float = 1.0,
    *,
    vertical: bool = True,
    size: tuple[int, int] = (HEIGHT, WIDTH),
) -> float:
    """Return the mean signed distance from edges to where they come out, over 32 phases, in pixels of the image.

    An edge at e lies between pixels e - 1 and e. Rows at the border and in the middle of the image are read.
    """
    height, width = size if vertical else size[::-1]
    offsets = []
    for edge in range(first_edge, first_edge + 32):
        image = torch.zeros(1, 3, height, width)
        if vertical:
            image[:, :, :, edge:] = 1
        else:
            image[:, :, edge:, :] = 1
        scaled = scale_image(image, scale, aligned=network.aligned)
        with torch.inference_mode():
            cells = network.forward_cells(scaled)
            logits = enlarge_logits(cells.logits, cells.geometry, size=(height, width))[0]
        difference = logits[1] - logits[0] if vertical else (logits[1] - logits[0]).T
        rows = difference[[0, difference.shape[0] // 2, -1]]
        offsets.append(find_crossing(rows) - (edge - 0.5))
    return torch.cat(offsets).mean().item()


POSITIONS = {"left border": 34, "centre": 88, "right border": WIDTH - 34 - 32}


@pytest.mark.parametrize("output_stride", [16, 8, 4])
@pytest.mark.parametrize("position", POSITIONS)
def test_edges_come_out_where_they_are(output_stride: int, position: str) -> None:
    offset = measure_offset(build("aligned", output_stride), POSITIONS[position])
    assert abs(offset) < 0.25


@pytest.mark.parametrize("output_stride", [16, 8])
def test_edges_come_out_where_they_are_from_top_to_bottom_too(output_stride: int) -> None:
    assert abs(measure_offset(build("aligned", output_stride), 60, vertical=False)) < 0.25


@pytest.mark.parametrize("output_stride", [16, 8])
@pytest.mark.parametrize("scale", [0.5, 0.75, 1.25, 1.5, 1.75])
def test_edges_come_out_where_they_are_at_every_scale(output_stride: int, scale: float) -> None:
    first_edge = 66 if scale < 1 else 40
    network = build("aligned", output_stride)
    for edge in (first_edge, WIDTH - first_edge - 32):
        assert abs(measure_offset(network, edge, scale)) < 0.5


@pytest.mark.parametrize("output_stride", [16, 8])
def test_the_measure_sees_a_half_pixel_mistake(output_stride: int) -> None:
    """Cells centred on pixels, drawn as if they were areas: the image moves by (stride - 1) / 2 pixels."""
    offset = measure_offset(build("half_pixel", output_stride), POSITIONS["left border"], size=(160, 224))
    assert offset == pytest.approx((output_stride - 1) / 2, abs=0.1)
