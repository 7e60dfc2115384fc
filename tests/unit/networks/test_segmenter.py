from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atrous.core.errors import ConfigError, UsageError
from atrous.core.inputs import InputSpec
from atrous.networks.build import build_network_from
from atrous.networks.contracts import WHOLE, Backbone, FeatureLevel, FeatureShapes
from atrous.networks.heads.fcn import FCNHead
from atrous.networks.segmenter import Segmenter


def build(name: str = "deeplabv3-lite0", num_classes: int = 4, **options: object) -> Segmenter:
    torch.manual_seed(0)
    return build_network_from({"name": name, **options}, num_classes).eval()


def draw_bytes(batch: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, 3, height, width), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("name", ["fcn-lite0", "fcn-resnet18"])
def test_bytes_and_floats_give_the_same_logits(name: str) -> None:
    network = build(name)
    images = draw_bytes(1, 47, 65)
    with torch.inference_mode():
        torch.testing.assert_close(network(images), network(images / 255), rtol=1e-4, atol=1e-6)


def test_normalisation_is_that_of_the_backbone() -> None:
    network = build("fcn-resnet18")
    images = draw_bytes(2, 3, 5)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    expected = (images.float() / 255 - mean) / std
    torch.testing.assert_close(network.normalise(images), expected, rtol=1e-5, atol=1e-5)
    floats = images / 255
    before = floats.clone()
    torch.testing.assert_close(network.normalise(floats), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(floats, before)


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(1, 3, 9, 9, dtype=torch.int64),
        torch.zeros(1, 1, 9, 9),
        torch.zeros(1, 4, 9, 9),
        torch.zeros(3, 9, 9),
        torch.zeros(1, 9, 9, 3),
    ],
)
def test_images_of_another_form_are_refused(images: Tensor) -> None:
    """The usual mistake: int64 in 0..255 taken for [0, 1], or a grey image stretched to three channels."""
    with pytest.raises(UsageError, match="images: got"):
        build("fcn-lite0")(images)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_small_batches_train_on_running_statistics(batch: int) -> None:
    """The usual mistakes: batch 1 ends with an error, batch 2 makes the pooled branch +1 and -1 whatever goes in."""
    network = build().train()
    pooling = network.head.aspp.pooling
    statistics = pooling.norm.running_mean.clone()
    network(draw_bytes(batch, 65, 65)).square().mean().backward()
    assert torch.equal(pooling.norm.running_mean, statistics)
    assert pooling.conv.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("output_stride", [4, 8, 16, 32])
@pytest.mark.parametrize("size", [(1, 1), (33, 65), (34, 64), (100, 37), (360, 480)])
def test_geometry_counts_cells_as_the_convention_says(output_stride: int, size: tuple[int, int]) -> None:
    aligned, half = (build_linear(resize) for resize in ("aligned", "half_pixel"))
    for network in (aligned, half):
        network.output_stride = output_stride
    geometry = aligned.geometry(*size)
    for n, padded, cells in zip(
        size,
        (geometry.padded_height, geometry.padded_width),
        (geometry.map_height, geometry.map_width),
        strict=True,
    ):
        assert (padded - 1) % 32 == 0
        assert n <= padded < n + 32
        assert (cells - 1) * output_stride >= n - 1 > (cells - 2) * output_stride
    geometry = half.geometry(*size)
    assert (geometry.padded_height, geometry.padded_width) == size
    assert (geometry.map_height, geometry.map_width) == tuple(-(-n // output_stride) for n in size)


@pytest.mark.usefixtures("one_way")
def test_each_way_of_a_convolution_keeps_the_atrous_identity() -> None:
    test_the_whole_network_keeps_the_atrous_identity_without_image_pooling()


def test_the_whole_network_keeps_the_atrous_identity_without_image_pooling() -> None:
    """Fails where the image is padded to the stride of the moment."""
    network = build(head={"image_features": False, "rates": [2]}).double()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2)
    image = torch.rand(1, 3, 75, 110, dtype=torch.float64)
    cells = {}
    with torch.inference_mode():
        for output_stride in (32, 16, 8):
            network.output_stride = output_stride
            cells[output_stride] = network.forward_cells(image).logits
    for output_stride in (16, 8):
        step = 32 // output_stride
        finer = cells[output_stride][:, :, ::step, ::step]
        coarse = cells[32][:, :, : finer.shape[2], : finer.shape[3]]
        torch.testing.assert_close(finer, coarse, rtol=1e-10, atol=1e-12)


class Brightness(Backbone):
    """Average of 1x1 windows: each cell is the pixel under it, so that padding is seen at once."""

    input_spec = InputSpec(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))

    def __init__(self) -> None:
        super().__init__()
        self.feature_shapes = FeatureShapes((FeatureLevel(3, 32),))
        self.layers = nn.Sequential(*(nn.Conv2d(3, 3, 1, stride=2, groups=3, bias=False) for _ in range(5)))
        for layer in self.layers:
            nn.init.ones_(layer.weight)

    def forward(self, image: Tensor) -> list[Tensor]:
        return [self.layers(image)]


class PooledHead(FCNHead):
    """Passes on the average of the cells that are inside, as image pooling does."""

    def forward(self, features, extent=WHOLE):
        return extent.crop(features[-1]).mean(dim=(2, 3), keepdim=True).expand_as(features[-1])


def build_linear(resize: str) -> Segmenter:
    return Segmenter(Brightness(), PooledHead(Brightness().feature_shapes, 3), num_classes=3, resize=resize)


@pytest.mark.parametrize("image_pooling", ["image", "map"])
def test_cells_outside_the_image_count_in_the_map_only(image_pooling: str) -> None:
    backbone = Brightness()
    head = PooledHead(backbone.feature_shapes, 3)
    network = Segmenter(backbone, head, num_classes=3, image_pooling=image_pooling)
    image = torch.ones(1, 3, 40, 70)  # padded to 65 x 97: 5 x 7 cells, of which 3 x 5 lie in the image
    logits = network(image)
    expected = 1.0 if image_pooling == "image" else 15 / 35
    torch.testing.assert_close(logits, torch.full_like(logits, expected))


def test_padding_cells_never_reach_the_model_map() -> None:
    network = Segmenter(Brightness(), PooledHead(Brightness().feature_shapes, 3), num_classes=3)
    for height, width in [(33, 33), (34, 49), (1, 64)]:
        cells = network.forward_cells(torch.rand(1, 3, height, width))
        assert cells.logits.shape[2:] == (-(-(height - 1) // 16) + 1, -(-(width - 1) // 16) + 1)


def test_half_pixel_is_plain_torch() -> None:
    """What torchvision's models do: the features of the image as it is, enlarged without aligned corners."""
    network = build("fcn-resnet18", resize="half_pixel")
    image = draw_bytes(1, 50, 77)
    with torch.inference_mode():
        features = network.backbone(network.normalise(image))
        expected = F.interpolate(network.head.classifier(features[-1]), size=(50, 77), mode="bilinear")
        torch.testing.assert_close(network(image), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("output_stride", [4, 8, 16, 32])
@pytest.mark.parametrize("resize", ["aligned", "half_pixel"])
def test_auxiliary_logits_lie_on_the_same_cells(output_stride: int, resize: str) -> None:
    """At 32 the auxiliary level is denser than the map: taking its first cells would read a corner of the image."""
    network = build("fcn-resnet18", auxiliary=True, output_stride=output_stride, resize=resize).train()
    network.auxiliary_head.eval()
    levels: list[Tensor] = []
    network.auxiliary_head.register_forward_hook(lambda _, __, out: levels.append(out))
    cells = network.forward_cells(draw_bytes(2, 70, 161))
    level_stride = min(16, output_stride)
    assert levels[0].shape[3] == -(-161 // level_stride)
    if resize == "aligned":
        assert cells.auxiliary.shape == cells.logits.shape
        step = output_stride // level_stride
        expected = levels[0][:, :, ::step, ::step][:, :, : cells.logits.shape[2], : cells.logits.shape[3]]
        assert torch.equal(cells.auxiliary, expected)
    else:
        expected = F.interpolate(levels[0], size=cells.logits.shape[2:], mode="bilinear")
        torch.testing.assert_close(cells.auxiliary, expected)


def test_the_auxiliary_head_is_silent_in_evaluation() -> None:
    network = build("fcn-lite0", auxiliary=True)
    assert network.forward_cells(draw_bytes(1, 33, 33)).auxiliary is None


def test_cells_that_are_not_centred_need_half_pixel() -> None:
    class Patches(Brightness):
        def __init__(self) -> None:
            super().__init__()
            self.layers[0] = nn.Conv2d(3, 3, 2, stride=2)

    with pytest.raises(ConfigError, match=r"model\.resize: aligned needs cells centred"):
        Segmenter(Patches(), FCNHead(Patches().feature_shapes, 2), num_classes=2)
    network = Segmenter(Patches(), FCNHead(Patches().feature_shapes, 2), num_classes=2, resize="half_pixel")
    assert network(torch.rand(1, 3, 33, 50)).shape == (1, 2, 33, 50)


def test_a_padded_image_is_padded_with_the_mean_colour() -> None:
    """An image of the mean colour is one flat image to the network, whatever its size."""
    network = build("fcn-resnet18")
    colour = network.mean.double()
    sizes = [(33, 33), (20, 27)]
    with torch.inference_mode():
        first, second = (network.double().forward_cells(colour.expand(1, 3, *size)).logits for size in sizes)
    torch.testing.assert_close(first[:, :, : second.shape[2], : second.shape[3]], second)


def test_a_bfloat16_autocast_keeps_full_size_logits_in_float32() -> None:
    network = build("deeplabv3-lite0")
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        logits = network(draw_bytes(1, 65, 97))
    assert logits.dtype == torch.float32
    with torch.inference_mode():
        exact = network(draw_bytes(1, 65, 97))
    assert (logits - exact).abs().max() / exact.abs().max() < 0.1
