"""What every family of heads must keep, on the smallest backbone that can be had for it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from atrous.core.errors import ConfigError
from atrous.networks import FAMILIES
from atrous.networks.build import build_network_from
from atrous.networks.layers.resize import enlarge_logits
from atrous.networks.segmenter import Segmenter

NUM_CLASSES = 5
ASPP_FAMILIES = ("deeplabv3", "deeplabv3plus")
STRIDES = dict.fromkeys(FAMILIES, (4, 8, 16, 32)) | {
    "deeplabv3-cascade": (4, 8, 16, 32, 64, 128, 256),
    "deeplabv2": (4, 8, 16),  # its rates 3 and 9 are not whole at 32
}
EVERY = tuple((family, output_stride) for family in FAMILIES for output_stride in STRIDES[family])


def build(family: str, **options: object) -> Segmenter:
    torch.manual_seed(0)
    backbone = "lite0" if family == "deeplabv3-cascade" else "tiny"  # a cascade needs extra blocks
    return build_network_from({"name": f"{family}-{backbone}", **options}, NUM_CLASSES).eval()


def draw_images(batch: int, height: int, width: int) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(height * 1000 + width))


@pytest.mark.parametrize(("family", "output_stride"), EVERY)
@pytest.mark.parametrize("resize", ["aligned", "half_pixel"])
def test_any_size_gives_logits_of_that_size(family: str, resize: str, output_stride: int) -> None:
    network = build(family, resize=resize)
    network.output_stride = output_stride
    for size in [(1, 1), (1, 40), (37, 2), (33, 65)]:
        images = draw_images(1, *size)
        with torch.inference_mode():
            logits, cells = network(images), network.forward_cells(images)
        assert logits.shape == (1, NUM_CLASSES, *size)
        assert logits.isfinite().all()
        assert cells.geometry == network.geometry(*size)
        assert cells.logits.shape[2:] == (cells.geometry.map_height, cells.geometry.map_width)
        assert torch.equal(logits, enlarge_logits(cells.logits, cells.geometry))


@pytest.mark.parametrize(("family", "output_stride"), EVERY)
def test_a_batch_of_one_trains(family: str, output_stride: int) -> None:
    """The usual mistake: the norm after image pooling, which needs more than one value a channel, ends the training."""
    network = build(family, output_stride=output_stride, auxiliary=True).train()
    cells = network.forward_cells(draw_images(1, 65, 40))
    (cells.logits.square().mean() + cells.auxiliary.square().mean()).backward()
    assert cells.auxiliary.shape == cells.logits.shape
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all()
    scores = [weight for name, weight in network.head.named_parameters() if "classifier" in name and weight.dim() > 1]
    assert scores
    assert all(weight.grad.abs().sum() > 0 for weight in scores)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_is_its_images(family: str) -> None:
    network = build(family)
    images = draw_images(3, 50, 70)
    with torch.inference_mode():
        together, alone = network(images), torch.cat([network(image.unsqueeze(0)) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


SWITCHED = [pytest.param(f, marks=pytest.mark.slow if f == "deeplabv3-cascade" else ()) for f in FAMILIES]


@pytest.mark.parametrize("family", SWITCHED)
def test_a_switched_network_equals_a_fresh_one_and_comes_back_bit_equal(family: str) -> None:
    network = build(family)
    images = draw_images(1, 70, 90)
    with torch.inference_mode():
        before = network(images)
        for output_stride in STRIDES[family]:
            network.output_stride = output_stride
            fresh = build(family, output_stride=output_stride)
            fresh.load_state_dict(network.state_dict())
            assert torch.equal(network(images), fresh(images))
        network.output_stride = 16
        assert torch.equal(network(images), before)


@pytest.mark.parametrize("family", ASPP_FAMILIES)
def test_rates_follow_the_output_stride(family: str) -> None:
    network = build(family)
    rates = {}
    for output_stride in STRIDES[family]:
        network.output_stride = output_stride
        branches = [branch.spatial.conv for branch in network.head.aspp.atrous]
        rates[output_stride] = tuple(conv.dilation[0] for conv in branches)
        assert rates[output_stride] == network.head.compute_rates(output_stride)
        assert all(conv.dilation == conv.padding for conv in branches)
    assert rates == {4: (24, 48, 72), 8: (12, 24, 36), 16: (6, 12, 18), 32: (3, 6, 9)}


@pytest.mark.parametrize("family", ASPP_FAMILIES)
def test_a_rate_that_would_not_be_whole_is_refused_and_nothing_changes(family: str) -> None:
    network = build(family, head={"rates": [6, 9]})
    image = draw_images(1, 65, 65)
    with torch.inference_mode():
        before = network(image)
        with pytest.raises(ConfigError, match=r"output stride 32: rate 9 at stride 16 becomes 4\.5"):
            network.output_stride = 32
        assert network.output_stride == 16
        assert torch.equal(network(image), before)
    with pytest.raises(ConfigError, match="multiples of 2"):
        build(family, head={"rates": [6, 9]}, output_stride=32)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("output_stride", [0, 2, 12, 512, -8])
def test_strides_that_are_not_offered_are_refused_and_nothing_changes(family: str, output_stride: int) -> None:
    network = build(family)
    with pytest.raises(ConfigError, match=rf"Allowed: {', '.join(map(str, STRIDES[family]))}\."):
        network.output_stride = output_stride
    assert network.output_stride == 16
    assert network.head.compute_rates(16) == build(family).head.compute_rates(16)
