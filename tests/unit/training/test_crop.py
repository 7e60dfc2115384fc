from __future__ import annotations

import pytest
import torch

from atrous.core.errors import ConfigError
from atrous.networks.build import build_network_from
from atrous.training.crop import choose_crop, describe_crop, find_smallest_crop, propose_rates, require_cells


def build(name="deeplabv3-resnet18", **options):
    return build_network_from({"name": name, **options}, 3)


def test_a_crop_on_which_a_rate_has_no_cell_is_refused_with_what_would_do():
    network = build()
    with pytest.raises(ConfigError, match="at 257 pixels the feature map is 17 cells wide, and rate 18") as caught:
        require_cells(network, 257)
    assert "rates 6, 12, 18 at output stride 16 need 289 pixels" in caught.value.message
    assert "`crop=289` or more" in caught.value.hint
    assert "model.head.rates='[5, 10, 16]'" in caught.value.hint
    assert "`model=fcn-lite0`" in caught.value.hint


@pytest.mark.parametrize("output_stride", [4, 8, 16, 32])
@pytest.mark.parametrize("crop", [1, 16, 17, 33, 64, 65, 129, 200, 257, 288])
def test_every_remedy_holds_at_every_output_stride(crop, output_stride):
    network = build(output_stride=output_stride)
    with pytest.raises(ConfigError) as caught:
        require_cells(network, crop)
    smallest = find_smallest_crop(network)
    assert f"`crop={smallest}`" in caught.value.hint
    require_cells(network, smallest)
    with pytest.raises(ConfigError):
        require_cells(network, smallest - 1)
    rates = propose_rates(network, crop)
    assert ("head.rates" in caught.value.hint) == bool(rates) == (crop >= max(17, output_stride + 1))
    if rates:
        require_cells(build(output_stride=output_stride, head={"rates": rates}), crop)


@pytest.mark.parametrize(
    ("name", "longest", "crop", "words"),
    [
        ("fcn-resnet18", 1000, 353, None),
        ("fcn-resnet18", 353, 353, None),
        ("fcn-resnet18", 64, 65, "crop 65: no image has more than 64 pixels a side"),
        ("fcn-resnet18", 1, 1, "crop 1: no image has more than 1 pixel a side"),
        ("deeplabv3-resnet18", 300, 321, "crop 321: no image has more than 300 pixels a side"),
        ("deeplabv3-resnet18", 64, 289, "rates 6, 12, 18 need 289; `crop=65` `set` model.head.rates='[1, 2, 4]'"),
        ("deeplabv3-resnet18", 9, 289, "larger than every image, which has at most 9 pixels"),
    ],
)
def test_the_crop_that_is_chosen_follows_the_images_and_says_so(name, longest, crop, words):
    network = build(name)
    assert choose_crop(network, longest) == crop
    require_cells(network, crop)
    said = describe_crop(network, crop, longest, is_chosen=True)
    assert said is None if words is None else (words in said.message and said.severity == "note")


def test_a_given_crop_that_is_larger_than_every_image_is_remarked_on():
    said = describe_crop(build("fcn-resnet18"), 353, 64, is_chosen=False)
    assert said.code == "crop-larger-than-images"
    assert "`crop=65`" in said.message
    assert (said.severity, said.command) == ("warning", "atrous train DATA --crop 65")


def test_at_the_refused_crop_the_side_taps_have_no_gradient_and_at_the_remedy_they_do():
    torch.manual_seed(0)
    network = build(head={"rates": [6, 12, 18], "channels": 4}).eval()
    for crop, reached in ((257, False), (289, True)):
        network.zero_grad()
        network(torch.rand(1, 3, crop, crop)).square().sum().backward()
        side = network.head.aspp.atrous[2].spatial.conv.weight.grad[:, :, 0, 0]
        assert bool(side.abs().max() > 0) == reached


def test_a_head_without_rates_takes_any_crop():
    require_cells(build("fcn-resnet18"), 1)
