"""Our networks against torchvision's own, with its own state dict."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.segmentation import (
    deeplabv3_mobilenet_v3_large,
    deeplabv3_resnet50,
    deeplabv3_resnet101,
)

from atrous.networks import BACKBONES
from atrous.networks.model_file import load_model
from atrous.networks.segmenter import Segmenter
from atrous.networks.stride import StridePlanner
from atrous.networks.weights import load_fitting

MODELS = {
    "deeplabv3_resnet50": (deeplabv3_resnet50, 8),
    "deeplabv3_resnet101": (deeplabv3_resnet101, 8),
    "deeplabv3_mobilenet_v3_large": (deeplabv3_mobilenet_v3_large, 16),
}
"""torchvision's models and their output strides."""
MEAN, STD = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def draw_norms(network: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.1, generator=generator)
    return network.eval()


def compare_logits(name: str, auxiliary: bool, sizes: list[tuple[int, int]], folder: Path) -> None:
    torch.manual_seed(0)
    build, output_stride = MODELS[name]
    theirs = draw_norms(build(weights=None, weights_backbone=None, num_classes=21, aux_loss=auxiliary))
    torch.save(theirs.state_dict(), folder / "model.pth")
    ours, card = load_model(folder / "model.pth")
    ours.eval()
    assert card.label_space.num_classes == 21
    assert (ours.auxiliary_head is not None) == auxiliary
    assert ours.output_stride == output_stride
    for height, width in sizes:
        image = torch.rand(1, 3, height, width)
        normalised = torchvision.transforms.functional.normalize(image, MEAN, STD)
        with torch.inference_mode():
            expected, found = theirs(normalised)["out"], ours(image)
        assert found.shape == expected.shape
        assert (found - expected).abs().max() / expected.abs().max() < 1e-4
        assert expected.std() > 0
    if auxiliary:
        compare_auxiliary(theirs, ours)


def compare_auxiliary(theirs: nn.Module, ours: Segmenter) -> None:
    image = torch.rand(1, 3, 65, 97)
    with torch.inference_mode():
        features = theirs.backbone(torchvision.transforms.functional.normalize(image, MEAN, STD))
        expected = theirs.aux_classifier(features["aux"])
        found = ours.auxiliary_head(ours.backbone(ours.normalise(image)))
    assert found.shape == expected.shape
    assert (found - expected).abs().max() / expected.abs().max() < 1e-4


@pytest.mark.parametrize("auxiliary", [True, False])
def test_deeplabv3_resnet50_loads_and_agrees(auxiliary: bool, tmp_path: Path) -> None:
    compare_logits("deeplabv3_resnet50", auxiliary, [(65, 33)], tmp_path)


@pytest.mark.parametrize("auxiliary", [True, False])
def test_deeplabv3_mobilenet_v3_large_loads_and_agrees(auxiliary: bool, tmp_path: Path) -> None:
    compare_logits("deeplabv3_mobilenet_v3_large", auxiliary, [(65, 33), (224, 321)], tmp_path)


@pytest.mark.usefixtures("one_way")
@pytest.mark.parametrize("name", ["deeplabv3_resnet50", "deeplabv3_mobilenet_v3_large"])
def test_each_way_of_a_convolution_agrees(name: str, tmp_path: Path) -> None:
    compare_logits(name, True, [(65, 33)], tmp_path)


def test_deeplabv3_resnet101_loads_and_agrees(tmp_path: Path) -> None:
    compare_logits("deeplabv3_resnet101", False, [(65, 33)], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_large_images_agree(name: str, tmp_path: Path) -> None:
    compare_logits(name, True, [(224, 321), (520, 520), (513, 513)], tmp_path)


def read_their_features(network: nn.Module, image: Tensor) -> list[Tensor]:
    features = network.maxpool(network.relu(network.bn1(network.conv1(image))))
    levels = []
    for number in (1, 2, 3, 4):
        features = network.get_submodule(f"layer{number}")(features)
        levels.append(features)
    return levels


def compare_features(name: str, output_stride: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    replaced = {32: [False, False, False], 16: [False, False, True], 8: [False, True, True]}[output_stride]
    theirs = draw_norms(getattr(torchvision.models, name)(replace_stride_with_dilation=replaced))
    ours = BACKBONES.load(name)().eval()
    report = load_fitting(ours, theirs.state_dict())
    assert not report.new
    assert report.unused == ("fc.weight", "fc.bias")
    StridePlanner(ours, build_stride=output_stride)
    image = torch.randn(1, 3, *size)
    with torch.inference_mode():
        for expected, found in zip(read_their_features(theirs, image), ours(image), strict=True):
            assert found.shape == expected.shape
            assert (found - expected).abs().max() / expected.abs().max() < 1e-5


@pytest.mark.parametrize(
    ("name", "output_stride"), [("resnet18", 32), ("resnet34", 32), *(("resnet50", s) for s in (32, 16, 8))]
)
def test_features_agree(name: str, output_stride: int) -> None:
    compare_features(name, output_stride, (65, 47))


@pytest.mark.parametrize("output_stride", [32, 16])
def test_mobilenets_features_agree(output_stride: int) -> None:
    torch.manual_seed(0)
    theirs = draw_norms(torchvision.models.mobilenet_v3_large(dilated=output_stride == 16))
    ours = BACKBONES.load("mobilenet_v3_large")().eval()
    report = load_fitting(ours, theirs.state_dict())
    assert not report.new
    assert all(name.startswith("classifier.") for name in report.unused)
    StridePlanner(ours, build_stride=output_stride, first_unit_rate="uniform")
    image = torch.randn(1, 3, 65, 47)
    with torch.inference_mode():
        features, expected = image, []
        for layer in theirs.features:
            features = layer(features)
            expected.append(features)
        for number, found in zip((1, 3, 4, 12, 16), ours(image), strict=True):
            assert found.shape == expected[number].shape
            assert (found - expected[number]).abs().max() / expected[number].abs().max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50", "resnet101", "resnet152"])
@pytest.mark.parametrize("output_stride", [32, 16, 8])
def test_features_of_large_networks_agree(name: str, output_stride: int) -> None:
    compare_features(name, output_stride, (129, 97))
