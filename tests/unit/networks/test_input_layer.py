from __future__ import annotations

import pytest
import torch

from atrous.config.schema import ModelConfig
from atrous.core.inputs import DTYPE_RANGES, PHOTO, ImageForm, InputSpec
from atrous.networks import BACKBONES
from atrous.networks.build import build_network
from atrous.networks.input_layer import adapt_state, set_input


def describe(channels: int) -> InputSpec:
    form = ImageForm(tuple(range(channels)), "uint16", (0.0, 4095.0))
    return InputSpec((0.25,) * channels, (0.5,) * channels, form)


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_rgb_weights_are_spread_and_rescaled(channels):
    rgb = BACKBONES.load("resnet18")().state_dict()
    backbone = BACKBONES.load("resnet18")()
    set_input(backbone, describe(channels))
    assert backbone.conv1.weight.shape[1] == channels
    weight = adapt_state(backbone, rgb)["conv1.weight"]
    mean = rgb["conv1.weight"].mean(dim=1)
    for band in range(channels):
        expected = rgb["conv1.weight"][:, band] if channels >= 3 and band < 3 else mean
        torch.testing.assert_close(weight[:, band], expected * 3 / channels)
    assert adapt_state(backbone, rgb)["layer1.0.conv1.weight"] is rgb["layer1.0.conv1.weight"]


@pytest.mark.parametrize("channels", [1, 3, 6])
@pytest.mark.parametrize("name", ["lite0", "lite2"])
def test_published_weights_with_names_of_their_own_start_networks_of_any_bands(name, channels):
    rgb = BACKBONES.load(name)().state_dict()
    published = {f"published.{number}": tensor for number, tensor in enumerate(rgb.values())}
    backbone = BACKBONES.load(name)()
    set_input(backbone, describe(channels))
    assert list(adapt_state(backbone, backbone.adopt_names(published))) == list(rgb)
    del published["published.0"]
    assert list(backbone.adopt_names(published)) == list(published)


def test_equal_bands_give_what_grey_gave():
    """An image whose bands are equal is to all networks what it was to that of three bands."""
    rgb = BACKBONES.load("resnet18")()
    image = torch.rand(1, 1, 32, 32)
    for channels in (1, 4, 7):
        backbone = BACKBONES.load("resnet18")()
        set_input(backbone, describe(channels))
        backbone.load_state_dict(adapt_state(backbone, rgb.state_dict()))
        found = backbone.conv1(image.repeat(1, channels, 1, 1))
        torch.testing.assert_close(found, rgb.conv1(image.repeat(1, 3, 1, 1)), rtol=1e-4, atol=1e-5)


def test_stored_values_are_mapped_to_the_range_and_normalised():
    network = build_network(ModelConfig(name="fcn-resnet18"), 2, describe(2))
    stored = torch.tensor([0.0, 4095.0]).view(1, 2, 1, 1)
    torch.testing.assert_close(network.normalise(stored).flatten(), torch.tensor([-0.5, 1.5]))
    torch.testing.assert_close(network.normalise(stored.to(torch.uint16)), network.normalise(stored))


def test_photos_are_normalised_as_before():
    """To the bit: the formula is the one that models were trained with."""
    network = build_network(ModelConfig(name="fcn-resnet18"), 2)
    images = torch.randint(0, 256, (2, 3, 9, 7), dtype=torch.uint8)
    expected = images.float().sub(network.mean * 255.0).div(network.std * 255.0)
    assert torch.equal(network.normalise(images), expected)
    floats = images / 255
    assert torch.equal(network.normalise(floats), floats.sub(network.mean).div(network.std))
    assert network.backbone.input_spec.form == PHOTO
    assert network.make_blank(1, 2, 3).dtype == torch.uint8
    assert set(DTYPE_RANGES) == {"uint8", "uint16", "float32"}
