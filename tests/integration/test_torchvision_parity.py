"""Our networks against torchvision's own, with its own state dict."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.segmentation import deeplabv3_resnet50, deeplabv3_resnet101

from atrous.networks import BACKBONES
from atrous.networks.model_file import load_model
from atrous.networks.stride import StridePlanner
from atrous.networks.weights import load_fitting

MODELS = {"deeplabv3_resnet50": deeplabv3_resnet50, "deeplabv3_resnet101": deeplabv3_resnet101}
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
    theirs = draw_norms(MODELS[name](weights=None, weights_backbone=None, num_classes=21, aux_loss=auxiliary))
    torch.save(theirs.state_dict(), folder / "model.pth")
    ours, card = load_model(folder / "model.pth")
    ours.eval()
    assert card.label_space.num_classes == 21
    assert (ours.auxiliary_head is not None) == auxiliary
    assert ours.output_stride == 8
    for height, width in sizes:
        picture = torch.rand(1, 3, height, width)
        normalised = torchvision.transforms.functional.normalize(picture, MEAN, STD)
        with torch.inference_mode():
            expected, found = theirs(normalised)["out"], ours(picture)
        assert found.shape == expected.shape
        assert (found - expected).abs().max() / expected.abs().max() < 1e-4
        assert expected.std() > 0


@pytest.mark.parametrize("auxiliary", [True, False])
def test_deeplabv3_resnet50_loads_and_agrees(auxiliary: bool, tmp_path: Path) -> None:
    compare_logits("deeplabv3_resnet50", auxiliary, [(65, 33)], tmp_path)


def test_deeplabv3_resnet101_loads_and_agrees(tmp_path: Path) -> None:
    compare_logits("deeplabv3_resnet101", False, [(65, 33)], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_large_pictures_agree(name: str, tmp_path: Path) -> None:
    compare_logits(name, True, [(224, 321), (520, 520), (513, 513)], tmp_path)


def read_their_features(network: nn.Module, picture: Tensor) -> list[Tensor]:
    features = network.maxpool(network.relu(network.bn1(network.conv1(picture))))
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
    picture = torch.randn(1, 3, *size)
    with torch.inference_mode():
        for expected, found in zip(read_their_features(theirs, picture), ours(picture), strict=True):
            assert found.shape == expected.shape
            assert (found - expected).abs().max() / expected.abs().max() < 1e-5


@pytest.mark.parametrize(
    ("name", "output_stride"), [("resnet18", 32), ("resnet34", 32), *(("resnet50", s) for s in (32, 16, 8))]
)
def test_features_agree(name: str, output_stride: int) -> None:
    compare_features(name, output_stride, (65, 47))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50", "resnet101", "resnet152"])
@pytest.mark.parametrize("output_stride", [32, 16, 8])
def test_features_of_large_networks_agree(name: str, output_stride: int) -> None:
    compare_features(name, output_stride, (129, 97))
