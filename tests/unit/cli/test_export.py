from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from atrous import export, load
from atrous.cli.main import main
from atrous.core.labels import LabelSpace
from atrous.core.run_folder import MODEL_NAME
from atrous.networks.build import build_network_from
from atrous.networks.model_card import ModelCard
from atrous.networks.model_file import save_model

SPACE = LabelSpace(("sky", "road", "car"), ids=(0, 7, 200))

pytestmark = pytest.mark.filterwarnings("ignore:.*")  # the exporters' own


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a model whose norms have statistics, and images with masks."""
    folder = tmp_path_factory.mktemp("workplace")
    torch.manual_seed(0)
    model = {"name": "fcn-tiny", "weights": "none"}
    network = build_network_from(model, SPACE.num_classes).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    blocks = torch.rand(4, 3, 5, 5).repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
    with torch.no_grad():  # so that every class is somewhere the likeliest
        network.head.classifier.bias -= network(blocks).mean(dim=(0, 2, 3))
    save_model(folder / "run" / MODEL_NAME, network, ModelCard(model=model, label_space=SPACE))
    generator = np.random.default_rng(0)
    for number, size in enumerate([(40, 50), (33, 71)]):
        for kind in ("images", "masks"):
            (folder / "data" / kind).mkdir(parents=True, exist_ok=True)
        blocks = generator.integers(0, 256, (size[0] // 8 + 1, size[1] // 8 + 1, 3), dtype=np.uint8)
        image = blocks.repeat(8, axis=0).repeat(8, axis=1)[: size[0], : size[1]]
        Image.fromarray(image).save(folder / "data" / "images" / f"{number}.png")
        Image.fromarray(generator.choice(np.array(SPACE.ids, dtype=np.uint8), size)).save(
            folder / "data" / "masks" / f"{number}.png"
        )
    return folder


@pytest.fixture(scope="module")
def exported(workplace: Path) -> Path:
    assert main(["export", str(workplace / "run"), "--quiet"]) == 0
    return workplace / "run" / "model.onnx"  # beside the model, where no name is given


def read_labels(folder: Path) -> list[np.ndarray]:
    return [np.asarray(Image.open(folder / f"{number}.png")) for number in (0, 1)]


def test_the_file_labels_a_folder_as_the_model_does(workplace: Path, exported: Path, tmp_path: Path) -> None:
    for name, model, more in (
        ("torch", workplace / "run", []),
        ("onnxruntime", exported, []),
        ("openvino", exported, ["--backend", "openvino"]),
    ):
        words = ["predict", str(workplace / "data" / "images"), "--model", str(model), "--out", str(tmp_path / name)]
        assert main([*words, *more, "--quiet", "--format", "labels,confidence"]) == 0
    expected = read_labels(tmp_path / "torch")
    assert len(np.unique(np.concatenate([labels.ravel() for labels in expected]))) > 1
    for name in ("onnxruntime", "openvino"):
        for found, wanted in zip(read_labels(tmp_path / name), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_the_file_scores_as_the_model_does(workplace: Path, exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = []
    for model in (workplace / "run", exported):
        assert main(["eval", str(model), str(workplace / "data"), "--json", "--quiet"]) == 0
        scores.append(json.loads(capsys.readouterr().out))
    assert scores[0]["confusion"] == scores[1]["confusion"]


def test_what_was_found_is_printed(workplace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["export", str(workplace / "run" / MODEL_NAME), "--format", "pt2", "--argmax", "--output-stride", "8"]
    assert main([*words, "--out", str(tmp_path / "m.pt2"), "--json"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["file"] == str(tmp_path / "m.pt2")
    assert found["parity"]["labels"] <= 1e-3
    assert "converting to pt2 at output stride 8" in said.err
    images, out = str(workplace / "data" / "images"), str(tmp_path / "labels")
    assert main(["predict", images, "--model", str(tmp_path / "m.pt2"), "--out", out]) == 4
    assert "--trust" in capsys.readouterr().err
    words = ["predict", images, "--model", str(tmp_path / "m.pt2"), "--out", out, "--trust"]
    assert main([*words, "--format", "confidence"]) == 2
    assert "gives labels alone" in capsys.readouterr().err
    assert main([*words, "--quiet"]) == 0


def test_without_a_name_it_lies_beside_the_model(monkeypatch: pytest.MonkeyPatch, workplace: Path) -> None:
    monkeypatch.setattr("atrous.api.export_network", lambda *_, **__: None)
    assert export(workplace / "run" / MODEL_NAME, format="pt2")[0] == workplace / "run" / "model.pt2"
    assert export(load(workplace / "run"), format="openvino")[0] == Path("model.xml")


def test_an_unknown_format_is_refused(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, near in (("onx", "onnx"), ("safetensor", "safetensors")):
        assert main(["export", str(workplace / "run"), "--format", name]) == 2
        assert f"Did you mean '{near}'?" in capsys.readouterr().err


def test_a_small_model_file_takes_the_place_of_the_model(
    workplace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = tmp_path / "small.safetensors"
    words = ["export", str(workplace / "run" / MODEL_NAME), "--format", "safetensors", "--out", str(small)]
    assert main([*words, "--json"]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert (found["file"], found["format"]) == (str(small), "safetensors")
    assert 0 < found["parity"]["logits"] < 1e-2
    [note] = [note for note in found["notes"] if note["code"] == "not-scored"]
    assert "the file has no score" in note["message"]
    assert "the file has no score" in said.err
    assert main([*words, "--argmax", "--output-stride", "8", "--overwrite"]) == 2
    assert "argmax, output_stride: of exported graphs" in capsys.readouterr().err
    images = str(workplace / "data" / "images")
    for name, model in (("whole", workplace / "run"), ("small", small)):
        assert main(["predict", images, "--model", str(model), "--out", str(tmp_path / name), "--quiet"]) == 0
    for found_labels, wanted in zip(read_labels(tmp_path / "small"), read_labels(tmp_path / "whole"), strict=True):
        assert (found_labels != wanted).mean() < 0.01
    capsys.readouterr()
    assert main(["eval", str(small), str(workplace / "data"), "--json", "--quiet"]) == 0
    assert main(["models", "show", str(small)]) == 0
