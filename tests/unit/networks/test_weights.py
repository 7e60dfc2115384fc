from __future__ import annotations

import contextlib
import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import atrous
from atrous.core.errors import ModelFileError
from atrous.core.files import compute_sha256
from atrous.networks import BACKBONES, FAMILIES
from atrous.networks.backbones.efficientnet_lite import LITE0_FILE, LITE1_FILE
from atrous.networks.backbones.resnet import build_resnet18
from atrous.networks.build import build_network_from
from atrous.networks.model_source import read_class_names
from atrous.networks.published import convert_torchvision
from atrous.networks.weights import CLASSIFIERS, load_fitting, load_state, load_weights, require_finite, start_weights


def build(num_classes: int = 3, **options: object):
    return build_network_from({"name": "deeplabv3-lite0", **options}, num_classes)


def save(folder: Path, content: object, name: str = "file.pth") -> Path:
    torch.save(content, folder / name)
    return folder / name


@pytest.mark.parametrize("key", [None, "model", "state_dict", "model_state"])
def test_state_dicts_are_found_inside_what_people_save(key: str | None, tmp_path: Path) -> None:
    state = {"module.conv.weight": torch.ones(2), "module.bias": torch.zeros(1)}
    content = state if key is None else {key: state, "epoch": 3, "note": "best"}
    read = load_state(save(tmp_path, content))
    assert list(read) == ["conv.weight", "bias"]


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_numbers_of_less_than_32_bits_are_read_as_fp32(dtype: torch.dtype, suffix: str, tmp_path: Path) -> None:
    state = {"weight": torch.tensor([[1.5, -0.125]]), "count": torch.tensor(3), "bias": torch.tensor([0.1])}
    stored = {name: value.to(dtype) if name == "weight" else value for name, value in state.items()}
    path = tmp_path / f"file{suffix}"
    if suffix == ".pth":
        torch.save(stored, path)
    else:
        save_file(stored, path)
    read = load_state(path)
    for name, value in state.items():
        assert read[name].dtype == value.dtype
        assert torch.equal(read[name], value)


@pytest.mark.parametrize(
    "convert",
    [
        torch.Tensor.cfloat,
        torch.Tensor.to_sparse,
        lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8),
        lambda tensor: tensor.to("meta"),
    ],
    ids=["complex", "sparse", "quantised", "without values"],
)
@pytest.mark.filterwarnings("ignore:.*quantize:UserWarning")
def test_tensors_that_no_network_has_are_refused(
    convert: Callable[[torch.Tensor], torch.Tensor], tmp_path: Path
) -> None:
    tensor = convert(torch.ones(2, 2))
    with pytest.raises(ModelFileError, match="weight is no plain tensor"):
        load_state(save(tmp_path, {"bias": torch.ones(1), "weight": tensor}))


def test_a_number_beyond_fp32_is_not_finite(tmp_path: Path) -> None:
    state = load_state(save(tmp_path, {"weight": torch.tensor([1e300], dtype=torch.float64)}))
    with pytest.raises(ModelFileError, match="not finite"):
        require_finite(state, "file")


def test_a_module_that_is_called_module_keeps_its_name(tmp_path: Path) -> None:
    """What DistributedDataParallel puts before every name is the only prefix that is removed."""
    names = ["module.conv.weight", "stem.weight"]
    assert list(load_state(save(tmp_path, {name: torch.ones(2) for name in names}))) == names


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
    lines = report.describe("old.pth")
    assert len(lines) == 3
    assert lines[0] == f"weights: {len(report.loaded)} tensors loaded from old.pth"
    assert lines[1] == "weights: 2 new: head.classifier"
    assert lines[2].startswith(f"weights: {len(report.unused)} not used: head.classifier, auxiliary_head.hidden")


HEAD_NAMES = [f"{family}-{'resnet18' if 'cascade' in family else 'tiny'}" for family in FAMILIES]


@pytest.mark.parametrize("name", HEAD_NAMES)
@pytest.mark.parametrize("auxiliary", [False, True])
def test_the_last_layer_keeps_the_classes_of_the_same_name(name: str, auxiliary: bool, tmp_path: Path) -> None:
    """Other rows would be those of other classes, which nothing tells where there are as many."""
    old = atrous.build(name, classes=["background", "cat", "person"], auxiliary=auxiliary)
    file = atrous.save(old, tmp_path / "old.safetensors")
    torch.manual_seed(5)
    fresh = atrous.build(name, classes=["Person", "rest", "sky"], auxiliary=auxiliary).state_dict()
    torch.manual_seed(5)
    new = atrous.build(name, classes=["Person", "rest", "sky"], weights=file, auxiliary=auxiliary).state_dict()
    rows = [key for key in new if any(part in CLASSIFIERS for part in key.split("."))]
    assert any(key.startswith("head.") for key in rows)
    assert any(key.startswith("auxiliary_head.") for key in rows) == auxiliary
    for key, tensor in old.state_dict().items():
        if key in rows:
            assert torch.equal(new[key][0], tensor[2])
            assert torch.equal(new[key][1:], fresh[key][1:])
        else:
            assert torch.equal(new[key], tensor)


def test_classes_that_a_file_does_not_have_start_anew_and_the_log_says_so(tmp_path: Path) -> None:
    old = atrous.build("fcn-tiny", classes=["background", "cat", "person"])
    file = str(atrous.save(old, tmp_path / "old.safetensors"))

    def start_from(*classes: str) -> list[str]:
        return start_weights(build_network_from({"name": "fcn-tiny"}, len(classes)), "fcn-tiny", file, classes)

    assert len(start_from("background", "cat", "person")) == 1
    assert start_from("person", "sky", "sea")[-1] == (
        "weights: classes of the last layer: person kept by name; sky, sea new"
    )
    assert start_from("cat", "person")[-1].endswith("last layer: cat, person kept by name")
    assert start_from("road", "sky", "sea")[1:] == [
        "weights: 2 new: head.classifier",
        "weights: classes of the last layer: road, sky, sea new",
    ]


def test_a_published_model_has_classes_without_a_download() -> None:
    assert read_class_names("torchvision/deeplabv3_resnet50")[15] == "person"
    assert read_class_names("imagenet") == ()


def test_nothing_is_said_to_be_kept_that_does_not_fit(tmp_path: Path) -> None:
    """The last layers of two families differ in their input."""
    file = atrous.save(atrous.build("fcn-tiny", classes=["road", "sky"]), tmp_path / "old.safetensors")
    network = build_network_from({"name": "deeplabv3-tiny", "head": {"channels": 12}}, 2)
    lines = start_weights(network, "deeplabv3-tiny", str(file), ("sky", "sea"))
    assert lines[-1] == "weights: classes of the last layer: sky, sea new"


def test_classes_without_names_are_matched_by_their_index(tmp_path: Path) -> None:
    old = atrous.build("fcn-tiny", classes=["class 0", "class 7"])
    file = atrous.save(old, tmp_path / "old.safetensors")
    for classes in (["road", "sky"], ["class 0", "class 7"], 2):
        state = atrous.build("fcn-tiny", classes=classes, weights=file).state_dict()
        assert all(torch.equal(tensor, state[name]) for name, tensor in old.state_dict().items())


def test_a_card_that_names_more_classes_than_there_are_rows_is_no_traceback() -> None:
    network = build(num_classes=2)
    before = network.head.classifier.weight.detach().clone()
    load_weights(network, "deeplabv3-lite0", build(num_classes=2).state_dict(), "file", (5, 1))
    assert torch.equal(network.head.classifier.weight, before)


def test_the_callers_dict_is_never_edited() -> None:
    state = {"classifier.4.bias": torch.ones(3), "backbone.conv1.weight": torch.ones(1)}
    kept = dict(state)
    assert list(convert_torchvision(state)) == ["head.classifier.bias", "backbone.conv1.weight"]
    assert state == kept
    own = build_resnet18().state_dict()
    names = list(own)
    load_fitting(build_resnet18(), own)
    assert list(own) == names


def start(model: dict[str, object], source: object) -> tuple[nn.Module, list[str]]:
    torch.manual_seed(1)
    network = build_network_from(model, 3)
    return network, start_weights(network, str(model["name"]), str(source))


def draw_state(backbone: nn.Module) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randn(value.shape, generator=generator) if value.is_floating_point() else value
        for name, value in backbone.state_dict().items()
    }


def test_a_backbones_file_fills_the_backbone_and_says_what_it_was(tmp_path: Path) -> None:
    state = draw_state(build_resnet18())
    path = save(tmp_path, state | {"fc.weight": torch.ones(5, 512), "fc.bias": torch.ones(5)}, "mine.pth")
    network, lines = start({"name": "fcn-resnet18"}, path)
    assert lines == [
        f"weights: {len(state)} tensors loaded from mine.pth (SHA-256 {compute_sha256(path)})",
        "weights: 2 not used: fc.weight, fc.bias",
    ]
    assert all(torch.equal(value, state[name]) for name, value in network.backbone.state_dict().items())


def test_counters_of_norms_may_be_missing(tmp_path: Path) -> None:
    """Files from before batch norms counted are whole."""
    state = {name: value for name, value in draw_state(build_resnet18()).items() if "num_batches" not in name}
    _, lines = start({"name": "fcn-resnet18"}, save(tmp_path, state))
    assert len(lines) == 1


def test_a_lite_networks_published_file_is_taken_by_its_path() -> None:
    path = LITE0_FILE.fetch()
    network, lines = start({"name": "fcn-lite0"}, path)
    by_name, same = start({"name": "fcn-lite0"}, "imagenet")
    assert lines == same
    published = list(load_state(path).values())
    for value, other, theirs in zip(
        network.backbone.state_dict().values(), by_name.backbone.state_dict().values(), published, strict=False
    ):
        assert torch.equal(value, other)
        assert torch.equal(value, theirs)


@pytest.mark.parametrize("prefix", ["", "backbone."])
@pytest.mark.parametrize(
    ("given", "model"),
    [
        ("resnet34", "fcn-resnet18"),
        pytest.param("resnet101", "fcn-resnet50", marks=pytest.mark.slow),
        pytest.param("resnet50", "fcn-resnet101", marks=pytest.mark.slow),
        pytest.param("resnet18", "fcn-lite0", marks=pytest.mark.slow),
        pytest.param("mobilenet_v3_large", "fcn-timm/mobilenetv3_small_100", marks=pytest.mark.slow),
    ],
)
def test_weights_of_a_variant_are_refused_in_one_sentence_that_names_it(
    given: str, model: str, prefix: str, tmp_path: Path
) -> None:
    """The usual mistakes: a deeper network's file fills a shallow one without a word, or a wall of keys."""
    state = draw_state(BACKBONES.load(given)())
    path = save(tmp_path, {prefix + name: value for name, value in state.items()})
    network = build_network_from({"name": model}, 3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ModelFileError) as caught:
        start_weights(network, model, str(path))
    assert caught.value.message == f"{path}: has the weights of {given}, and the model is {model}"
    assert caught.value.hint == f"Choose `model=fcn-{given}`, or weights of {model.removeprefix('fcn-')}."
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.slow
def test_weights_of_a_lite_variant_are_told_by_their_order() -> None:
    with pytest.raises(ModelFileError, match=r"has the weights of lite1(.|\n)*`model=fcn-lite1`"):
        start({"name": "fcn-lite0"}, LITE1_FILE.fetch())


def test_another_architecture_is_one_sentence(tmp_path: Path) -> None:
    state = draw_state(build_resnet18())
    state["layer4.1.conv2.weight"] = torch.ones(1)
    path = save(tmp_path, state)
    with pytest.raises(ModelFileError) as caught:
        start({"name": "fcn-resnet18"}, path)
    assert caught.value.message == (
        f"{path}: lacks 1 tensor of resnet18, such as layer4.1.conv2.weight; it has 120, such as conv1.weight"
    )
    with pytest.raises(ModelFileError, match="none of the 120 tensors in the file fits the network"):
        load_fitting(build(), state)


def copies_last_block(backbone: nn.Module) -> bool:
    blocks = ("layer4", "layer5", "layer7") if hasattr(backbone, "layer4") else ("stages.5", "extra.0", "extra.2")
    last, *extra = (backbone.get_submodule(block)[1].state_dict() for block in blocks)
    return all(torch.equal(value, block[name]) for block in extra for name, value in last.items())


@pytest.mark.parametrize(("name", "source"), [("resnet18", "none"), ("resnet18", "file"), ("lite0", "imagenet")])
def test_extra_blocks_start_as_copies_of_the_last(name: str, source: str, tmp_path: Path) -> None:
    if source == "file":
        source = str(save(tmp_path, draw_state(build_resnet18())))
    network, lines = start({"name": f"deeplabv3-cascade-{name}"}, source)
    assert lines[-1] == "weights: extra blocks start as copies of the last block"
    assert not any("new" in line for line in lines)
    assert copies_last_block(network.backbone)


def test_extra_blocks_that_a_file_has_are_loaded(tmp_path: Path) -> None:
    model = {"name": "deeplabv3-cascade-resnet18"}
    state = draw_state(build_network_from(model, 3))
    network, lines = start(model, save(tmp_path, state))
    assert len(lines) == 1
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert not copies_last_block(network.backbone)


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_state_dict_of_an_older_pickle_protocol_is_read_without_a_warning(tmp_path, protocol):
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pth", pickle_protocol=protocol)
    assert torch.equal(load_state(tmp_path / "a.pth")["a"], torch.ones(2))
