from __future__ import annotations

import contextlib
import json
import lzma
import math
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import atrous
from atrous.core.calibration import Chosen
from atrous.core.errors import ModelFileError
from atrous.core.labels import LabelSpace
from atrous.core.run_folder import MODEL_NAME
from atrous.core.seal import SEAL_KEY
from atrous.networks.build import build_network_from
from atrous.networks.model_card import FORMAT_VERSION, ModelCard, read_card
from atrous.networks.model_file import load_model, save_model
from atrous.networks.segmenter import Segmenter
from atrous.networks.weights import start_weights

GOLDEN = Path(__file__).parents[2] / "golden"

CLASSES = LabelSpace(("road", "sky", "tree"), ids=(7, 11, 300), colours=((1, 2, 3), (4, 5, 6), (7, 8, 9)))


def build(**options: object) -> tuple[Segmenter, ModelCard]:
    torch.manual_seed(0)
    model = {"name": "deeplabv3-tiny", "head": {"channels": 16, "rates": [2, 4]}, **options}
    network = build_network_from(model, CLASSES.num_classes).eval()
    for name, value in network.state_dict().items():
        if name.endswith("running_mean"):
            value.normal_(0, 0.1)
    normalisation = {"mean": list(network.backbone.input_spec.mean), "std": list(network.backbone.input_spec.std)}
    card = ModelCard(
        model, CLASSES, normalisation, "padded", 0.5, {"output_stride": 16}, "shapes", "abc", {"atrous": "0"}
    )
    card = replace(card, chosen=Chosen(1.5, "shapes val", threshold=0.4))
    return network, card


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / MODEL_NAME
    save_model(path, *build())
    return path


@pytest.fixture
def saved(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(template, tmp_path))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"name": "deeplabv3-lite0", "output_stride": 8, "convention": "tensorflow"},
        {"name": "fcn-resnet18", "head": {}, "auxiliary": True, "resize": "half_pixel", "multi_grid": [1, 2]},
        {"name": "fcn-timm/mobilenetv2_050", "head": {}},
    ],
)
def test_a_model_comes_back_bit_equal(options: dict[str, object], tmp_path: Path) -> None:
    network, card = build(**options)
    save_model(tmp_path / "model.safetensors", network, card)
    loaded, read = load_model(tmp_path / "model.safetensors")
    assert read == card
    images = torch.randint(0, 256, (1, 3, 50, 70), dtype=torch.uint8)
    with torch.inference_mode():
        for output_stride in (network.output_stride, 8, 32):
            network.output_stride = loaded.output_stride = output_stride
            assert torch.equal(loaded.eval()(images), network(images))
            assert [site.rate for site in loaded.sites] == [site.rate for site in network.sites]


def test_a_switched_model_is_saved_as_it_was_built(tmp_path: Path) -> None:
    network, card = build(convention="tensorflow")
    network.output_stride = 8
    save_model(tmp_path / "model.safetensors", network, card)
    loaded, _ = load_model(tmp_path / "model.safetensors")
    assert loaded.output_stride == 16
    loaded.eval().output_stride = 8
    image = torch.rand(1, 3, 65, 65)
    with torch.inference_mode():
        assert torch.equal(loaded(image), network(image))


def test_the_file_alone_tells_all_that_predicting_needs(saved: Path) -> None:
    """Read with nothing but the format's own library: no class of ours, no pickle."""
    with safe_open(saved, framework="pt") as file:
        metadata = file.metadata()
    card = json.loads(metadata["card"])
    assert metadata["format"] == "atrous-model"
    assert card["normalisation"] == {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}
    assert card["label_space"]["names"] == ["road", "sky", "tree"]
    assert card["label_space"]["ids"] == [7, 11, 300]
    assert card["label_space"]["colours"][0] == [1, 2, 3]
    assert card["model"]["name"] == "deeplabv3-tiny"
    assert (card["size_rule"], card["score"], card["data"]) == ("padded", 0.5, "shapes")


def test_the_files_normalisation_is_what_the_network_applies(tmp_path: Path) -> None:
    """The usual mistake: the numbers are written down, and those of the code of the day are used."""
    network, card = build()
    card.normalisation["mean"] = [0.1, 0.2, 0.3]
    save_model(tmp_path / "model.safetensors", network, card)
    loaded, _ = load_model(tmp_path / "model.safetensors")
    torch.testing.assert_close(loaded.mean.flatten(), torch.tensor([0.1, 0.2, 0.3]))


def test_a_run_folder_is_a_model(saved: Path, tmp_path: Path) -> None:
    _, card = load_model(saved.parent)
    assert card.label_space == CLASSES
    with pytest.raises(ModelFileError, match="holds no model"):
        load_model(tmp_path.parent)


def test_other_tensors_can_be_saved_in_place_of_the_networks_own(tmp_path: Path) -> None:
    network, card = build()
    averaged = {name: value + 1 if value.is_floating_point() else value for name, value in network.state_dict().items()}
    save_model(tmp_path / "model.safetensors", network, card, averaged)
    loaded, _ = load_model(tmp_path / "model.safetensors")
    assert all(torch.equal(value, averaged[name]) for name, value in loaded.state_dict().items())


def test_saving_replaces_whole_files_only(saved: Path) -> None:
    network, card = build()
    before = saved.read_bytes()
    with pytest.raises(TypeError):
        save_model(saved, network, ModelCard(card.model, CLASSES, data=object()))
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [MODEL_NAME]


def rewrite(path: Path, metadata: dict[str, str] | None = None, **tensors: torch.Tensor) -> None:
    with safe_open(path, framework="pt") as file:
        old = file.metadata()
    state = load_file(path)
    old.pop(SEAL_KEY, None)
    save_file(state | tensors, path, metadata=old | (metadata or {}))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.5, 0.999])
def test_truncated_files_are_refused(share: float, saved: Path) -> None:
    whole = saved.read_bytes()
    saved.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ModelFileError, match="cannot be read"):
        load_model(saved)


def test_flipped_header_bytes_never_show_a_traceback(saved: Path) -> None:
    whole = bytearray(saved.read_bytes())
    (length,) = struct.unpack("<Q", whole[:8])
    generator = torch.Generator().manual_seed(0)
    start = whole.index(b'"__metadata__"')
    span = min(length - start, 4000)
    for place in torch.randint(0, span, (60,), generator=generator).tolist():
        changed = bytearray(whole)
        changed[start + place] = ord("!")
        saved.write_bytes(changed)
        with contextlib.suppress(ModelFileError):
            read_card(saved)


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.ones(2)}, path)
    with pytest.raises(ModelFileError, match="was not written by atrous"):
        load_model(path)
    save_file({"weight": torch.ones(2)}, path, metadata={"format": "pt"})
    with pytest.raises(ModelFileError, match="was not written by atrous"):
        load_model(path)
    torch.save({"weight": torch.ones(2)}, tmp_path / "other.pth")
    with pytest.raises(ModelFileError, match="holds tensors alone"):
        load_model(tmp_path / "other.pth")
    with pytest.raises(ModelFileError, match="no such file"):
        load_model(tmp_path / "nothing.safetensors")


def test_files_of_later_versions_say_to_update(saved: Path) -> None:
    rewrite(saved, {"format_version": str(FORMAT_VERSION + 1)})
    with pytest.raises(ModelFileError, match=f"has format {FORMAT_VERSION + 1}(.|\n)*Update atrous"):
        load_model(saved)


def test_unknown_fields_of_the_card_are_left_out(saved: Path) -> None:
    with safe_open(saved, framework="pt") as file:
        card = json.loads(file.metadata()["card"])
    rewrite(saved, {"card": json.dumps(card | {"mood": "good"})})
    assert read_card(saved).data == "shapes"


@pytest.mark.parametrize("version", ["two", "", "1.5"])
def test_a_format_version_that_is_no_number_is_refused(version: str, saved: Path) -> None:
    rewrite(saved, {"format_version": version})
    with pytest.raises(ModelFileError, match="description is damaged"):
        load_model(saved)


@pytest.mark.parametrize(
    "card",
    [
        "",
        "{",
        "[]",
        "3",
        "null",
        '"text"',
        "{}",
        "[" * 100_000,
        '{"model": {}, "label_space": []}',
        '{"model": {}, "label_space": {"names": 3}}',
        '{"model": {}, "label_space": {"names": ["a"], "ids": [0], "colours": [[1, 2]], "ignored_ids": []}}',
        '{"model": {}, "label_space": {"names": ["a", "a"], "ids": [0, 1], "colours": [], "ignored_ids": []}}',
        '{"label_space": {"names": ["a"], "ids": [0], "colours": [], "ignored_ids": []}}',
    ],
)
def test_damaged_descriptions_are_refused(card: str, saved: Path) -> None:
    rewrite(saved, {"card": card})
    with pytest.raises(ModelFileError, match="description is damaged"):
        load_model(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"name": "deeplabv3-lite7"}}, "cannot be built: model.name"),
        ({"model": {"name": "fcn-lite0", "colour": 1}}, "cannot be built: model.colour"),
        ({"model": []}, "description is damaged"),
        ({"model": {"name": "fcn-lite0"}}, "does not fit its own description"),
        ({"normalisation": {"mean": [0.5]}}, "description is damaged"),
        ({"normalisation": {"mood": [0.5, 0.5, 0.5]}}, "description is damaged"),
        ({"normalisation": {"mean": ["a", "b", "c"]}}, "description is damaged"),
        ({"normalisation": [1]}, "description is damaged"),
        ({"data_terms": 3}, "description is damaged"),
        ({"data_terms": [3]}, "description is damaged"),
        ({"class_iou": [0.5, 0.5]}, "description is damaged"),
        ({"protocol": {"scales": [1.0], "precision": 32}}, "description is damaged"),
    ],
)
def test_descriptions_that_do_not_hold_together_are_refused(change: dict, message: str, saved: Path) -> None:
    with safe_open(saved, framework="pt") as file:
        card = json.loads(file.metadata()["card"])
    rewrite(saved, {"card": json.dumps(card | change)})
    with pytest.raises(ModelFileError, match=message):
        load_model(saved)


@pytest.mark.parametrize("value", [3, "x", True, None, [1], ["a"], {"a": 1}, [[]]], ids=str)
def test_a_field_of_any_kind_is_refused_or_can_be_used(value: object, saved: Path) -> None:
    with safe_open(saved, framework="pt") as file:
        card = json.loads(file.metadata()["card"])
    for name in ModelCard.__dataclass_fields__:
        rewrite(saved, {"card": json.dumps(card | {name: value})})
        with contextlib.suppress(ModelFileError):
            model = atrous.load(saved, device="cpu")
            assert repr(model)
            assert model.validation_options.scales


def test_tensors_that_do_not_fit_the_description_are_refused(saved: Path) -> None:
    rewrite(saved, **{"head.classifier.weight": torch.zeros(4, 16, 1, 1)})
    with pytest.raises(ModelFileError, match=r"does not fit its own description in 2 tensors, first head\.classifier"):
        load_model(saved)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite_are_refused_wherever_a_file_is_opened(number: float, tmp_path: Path) -> None:
    network, card = build()
    with torch.no_grad():
        network.head.classifier.bias[1] = number
    path = tmp_path / "model.safetensors"
    save_model(path, network, card)
    message = r"model\.safetensors: numbers are not finite .* in 1 of \d+ tensors, first head\.classifier\.bias"
    with pytest.raises(ModelFileError, match=message):
        load_model(path)
    with pytest.raises(ModelFileError, match=message):
        start_weights(build()[0], "deeplabv3-tiny", str(path))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float8_e4m3fn], ids=str)
def test_numbers_in_few_bits_that_are_not_finite_are_refused(dtype: torch.dtype, saved: Path) -> None:
    weight = load_file(saved)["head.classifier.weight"].to(dtype)
    rewrite(saved, **{"head.classifier.weight": weight})
    network, _ = load_model(saved)
    assert torch.equal(network.head.classifier.weight, weight.float())
    assert network.head.classifier.weight.dtype == torch.float32
    weight[0, 0] = math.nan
    rewrite(saved, **{"head.classifier.weight": weight})
    with pytest.raises(ModelFileError, match=r"not finite .* in 1 of \d+ tensors, first head\.classifier\.weight"):
        load_model(saved)


def test_a_file_of_format_1_opens_and_answers_as_it_did(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(lzma.decompress((GOLDEN / "model-v1.safetensors.xz").read_bytes()))
    recorded = np.load(GOLDEN / "model-v1.npz")
    network, card = load_model(path)
    with torch.inference_mode():
        logits = network.eval()(torch.from_numpy(recorded["image"]))
    np.testing.assert_allclose(logits[:, :, ::4, ::4].numpy(), recorded["logits"], atol=1e-5)
    assert card.label_space.ids == (0, 7, 200)
    assert card.model["image_pooling"] == "image"
