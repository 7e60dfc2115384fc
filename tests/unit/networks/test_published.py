from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import get_model, get_model_weights
from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large

from atrous.core.errors import ConfigError, ModelFileError
from atrous.core.files import compute_sha256
from atrous.data.datasets.voc import VOC
from atrous.networks import BACKBONES
from atrous.networks.backbones import from_timm
from atrous.networks.backbones.efficientnet_lite import LITE0_FILE
from atrous.networks.backbones.from_timm import build_timm
from atrous.networks.build import build_network_from, find_backbone
from atrous.networks.contracts import Backbone
from atrous.networks.model_file import load_model
from atrous.networks.published import TORCHVISION_MODELS, convert_torchvision
from atrous.networks.weight_files import PublishedFile, find_cache
from atrous.networks.weights import load_fitting, load_state, start_weights

LITE_NAMES = ("lite0", "lite1", "lite2")
TORCHVISION_NAMES = tuple(name for name in BACKBONES if name.startswith(("resnet", "mobilenet")))
MOBILENET = "torchvision/deeplabv3_mobilenet_v3_large"


def draw_norms(network: nn.Module) -> None:
    """Give norms other values than new ones have, so that unloaded ones are seen."""
    generator = torch.Generator().manual_seed(0)
    for name, value in network.state_dict().items():
        if name.endswith(("running_mean", "bias")):
            value.normal_(0, 0.1, generator=generator)


def load_imagenet(backbone: Backbone) -> None:
    state = load_state(backbone.imagenet.fetch())
    assert not load_fitting(backbone, backbone.adopt_names(state)).new


def test_lite0s_imagenet_features_are_timms_bit_for_bit() -> None:
    ours = BACKBONES.load("lite0")()
    load_imagenet(ours)
    theirs = build_timm("tf_efficientnet_lite0")
    published_tensors = list(load_state(LITE0_FILE.fetch()).values())
    assert len(published_tensors) == 296
    names = [name for name in theirs.state_dict() if not name.startswith("network.conv_head")]
    theirs.load_state_dict(dict(zip(names, published_tensors, strict=False)))
    image = torch.randn(1, 3, 97, 65)
    with torch.inference_mode():
        for found, expected in zip(ours.eval()(image), theirs.eval()(image), strict=True):
            assert torch.equal(found, expected)
            assert found.std() > 0


@pytest.mark.parametrize("name", LITE_NAMES)
def test_lite_networks_have_timms_shapes_in_timms_order(name: str) -> None:
    with torch.device("meta"):
        ours = BACKBONES.load(name)()
    theirs = build_timm(f"tf_efficientnet_{name}")
    shapes = [value.shape for value in ours.state_dict().values()]
    assert shapes == [value.shape for value in theirs.state_dict().values()]
    epsilons = {module.eps for module in ours.modules() if isinstance(module, nn.BatchNorm2d)}
    assert epsilons == {module.eps for module in theirs.modules() if isinstance(module, nn.BatchNorm2d)} == {1e-3}
    assert ours.input_spec == theirs.input_spec


@pytest.mark.parametrize("name", LITE_NAMES)
def test_lite_files_fit(name: str) -> None:
    backbone = BACKBONES.load(name)()
    before = next(backbone.parameters()).clone()
    load_imagenet(backbone)
    assert not torch.equal(next(backbone.parameters()), before)


def test_backbones_without_imagenet_weights_say_so() -> None:
    network = build_network_from({"name": "fcn-timm/efficientnet_lite1"}, 2)
    with pytest.raises(ConfigError, match="no ImageNet weights are published for timm/efficientnet_lite1"):
        start_weights(network, "fcn-timm/efficientnet_lite1", "imagenet")


@pytest.mark.parametrize("name", TORCHVISION_NAMES)
def test_torchvisions_files_are_those_of_torchvisions_own_list(name: str) -> None:
    with torch.device("meta"):
        backbone = BACKBONES.load(name)()
    assert backbone.imagenet.url == get_model_weights(name)["IMAGENET1K_V1"].url
    assert re.search(r"-[0-9a-f]{8}\.pth$", backbone.imagenet.url)


def test_whole_models_of_torchvisions_have_files_that_can_be_verified() -> None:
    for name in TORCHVISION_MODELS:
        url = get_model_weights(name.removeprefix("torchvision/"))["COCO_WITH_VOC_LABELS_V1"].url
        assert re.search(r"-[0-9a-f]{8}\.pth$", url)


@pytest.mark.parametrize("name", [*BACKBONES, "timm/mobilenetv2_050"])
def test_every_published_file_names_its_licence(name: str) -> None:
    with torch.device("meta"):
        file = find_backbone(name)().imagenet
    assert file is None or file.licence in ("Apache-2.0", "apache-2.0", "BSD-3-Clause")


def name_by_hash(path: Path, stem: str) -> str:
    return f"{stem}-{compute_sha256(path)[:8]}.pth"


@pytest.mark.parametrize("name", ["mobilenetv2_050", "mobilenetv2_050.lamb_in1k", "regnetx_002"])
def test_timms_imagenet_weights_come_by_name_as_timm_would_load_them(
    name: str, server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    whole = timm.create_model(name, pretrained=False)
    draw_norms(whole)
    file = tmp_path / "model.safetensors"
    save_file(whole.state_dict(), file)
    monkeypatch.setattr(from_timm, "HOST", server.address)
    server.publish(file, f"{whole.pretrained_cfg['hf_hub_id']}/resolve/main/model.safetensors")
    network = build_network_from({"name": f"fcn-timm/{name}"}, 3).eval()
    lines = start_weights(network, f"fcn-timm/{name}", "imagenet")
    assert f"(SHA-256 {compute_sha256(file)})" in lines[0]
    assert not any("new" in line for line in lines)
    overlay = {"file": str(file)}
    theirs = timm.create_model(name, pretrained=True, features_only=True, pretrained_cfg_overlay=overlay).eval()
    network.output_stride = 32
    image = torch.randn(1, 3, 65, 97)
    with torch.inference_mode():
        for found, expected in zip(network.backbone(image), theirs(image), strict=True):
            assert torch.equal(found, expected)
    by_path = build_network_from({"name": f"fcn-timm/{name}"}, 3)
    assert start_weights(by_path, f"fcn-timm/{name}", str(file))[1:] == lines[1:]
    for value, other in zip(
        network.backbone.state_dict().values(), by_path.backbone.state_dict().values(), strict=True
    ):
        assert torch.equal(value, other)


def publish_torchvision(server, name: str, tag: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have one of torchvision's own entries point to this server."""
    entry = get_model_weights(name)[tag]
    url = server.publish(file, name_by_hash(file, name))
    monkeypatch.setattr(entry, "_value_", dataclasses.replace(entry.value, url=url))
    return url


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_large"])
def test_torchvisions_imagenet_weights_come_by_name(name: str, server, tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = draw_torchvision(name)
    torch.save(state, tmp_path / "file.pth")
    url = server.publish(tmp_path / "file.pth", name_by_hash(tmp_path / "file.pth", name))
    network = build_network_from({"name": f"fcn-{name}"}, 3)
    network.backbone.imagenet = PublishedFile(url, "BSD-3-Clause")
    lines = start_weights(network, f"fcn-{name}", "imagenet")
    assert url.rsplit("/", 1)[-1] in lines[0]
    assert all(torch.equal(value, state[key]) for key, value in network.backbone.state_dict().items())
    assert (find_cache() / url.rsplit("/", 1)[-1]).is_file()


def draw_torchvision(name: str) -> dict[str, torch.Tensor]:
    network = get_model(name, weights=None)
    draw_norms(network)
    return network.state_dict()


@pytest.fixture
def mobilenet(server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """torchvision's whole network with 21 classes, published under its own name."""
    torch.manual_seed(0)
    network = deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=21)
    draw_norms(network)
    torch.save(network.state_dict(), tmp_path / "whole.pth")
    name = MOBILENET.removeprefix("torchvision/")
    publish_torchvision(server, name, "COCO_WITH_VOC_LABELS_V1", tmp_path / "whole.pth", monkeypatch)
    return network.state_dict()


def test_a_whole_model_opens_by_name_with_vocs_classes(mobilenet: dict[str, torch.Tensor], server) -> None:
    network, card = load_model(Path(MOBILENET))
    expected = convert_torchvision(mobilenet)
    assert network.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())
    assert card.label_space == VOC
    assert "COCO" in card.data
    load_model(Path(MOBILENET))
    assert len(server.asked) == 1


def test_a_whole_model_starts_a_training_with_other_classes(mobilenet: dict[str, torch.Tensor]) -> None:
    model = {**TORCHVISION_MODELS[MOBILENET], "auxiliary": False}
    network = build_network_from(model, 3)
    lines = start_weights(network, model["name"], MOBILENET)
    assert len(lines) == 3
    assert "tensors loaded from deeplabv3_mobilenet_v3_large-" in lines[0]
    assert lines[1] == "weights: 2 new: head.classifier"
    assert lines[2] == "weights: 2 not used: head.classifier"
    expected = convert_torchvision(mobilenet)
    assert all(
        torch.equal(value, expected[name])
        for name, value in network.state_dict().items()
        if not name.startswith("head.classifier")
    )


def test_a_whole_model_of_another_variant_is_refused_before_it_is_fetched(server) -> None:
    network = build_network_from({"name": "deeplabv3-resnet18"}, 3)
    with pytest.raises(ModelFileError) as caught:
        start_weights(network, "deeplabv3-resnet18", "torchvision/deeplabv3_resnet101")
    assert "has the weights of resnet101, and the model is deeplabv3-resnet18" in caught.value.message
    assert "`model=deeplabv3-resnet101`" in caught.value.hint
    assert not find_cache().exists()


def test_an_unknown_name_of_torchvisions_says_which_there_are() -> None:
    network = build_network_from({"name": "fcn-resnet18"}, 3)
    for attempt in (
        lambda: load_model(Path("torchvision/deeplabv3_resnet5")),
        lambda: start_weights(network, "fcn-resnet18", "torchvision/deeplabv3_resnet5"),
    ):
        with pytest.raises(
            ModelFileError, match=r"is neither a file nor(.|\n)*Did you mean 'torchvision/deeplabv3_resnet50'"
        ):
            attempt()
