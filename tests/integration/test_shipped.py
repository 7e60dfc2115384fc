"""Shipped models by name: in Python, in every command that takes a model, and beside a folder of the same name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import atrous
from atrous.cli.main import main
from atrous.core.run_folder import RunFolder
from atrous.networks.model_card import read_card
from atrous.runs.scored_model import name_models

TERMS = "tiny is for tests"
SETTINGS = ("--model", "fcn-tiny", "--crop", "65", "--batch", "2", "--iterations", "1", "--workers", "0")


@pytest.fixture
def place(tmp_path, monkeypatch, shipped_tiny) -> Path:
    """The current folder, with an image and two pairs of an image and a mask of the model's classes."""
    folder = tmp_path / "place"
    generator = np.random.default_rng(0)
    for kind, shape, most in (("images", (65, 65, 3), 256), ("masks", (65, 65), 2)):
        (folder / "photos" / kind).mkdir(parents=True)
        for number in range(4):
            pixels = generator.integers(0, most, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / kind / f"{number}.png")
    (folder / "photos" / "atrous.yaml").write_text("data:\n  classes: [background, cat]\n")
    shutil.copy(folder / "photos" / "images" / "0.png", folder / "photo.png")
    monkeypatch.chdir(folder)
    return folder


def list_codes(notes: list[dict[str, str]]) -> list[str]:
    return [note["code"] for note in notes]


def test_predict_without_a_model_says_which_one_it_uses(place, capsys):
    assert main(["predict", "photo.png", "--json"]) == 0
    printed = capsys.readouterr()
    notes = json.loads(printed.out)["notes"]
    assert list_codes(notes) == ["default-model", "data-terms"]
    assert printed.err.count("no model is named, so animals labels the images: trained on tiny train, 12 images;") == 1
    assert "classes background, cat" in " ".join(printed.err.split())
    assert (place / "predictions" / "photo.png").is_file()
    assert main(["predict", "photo.png", "--model", "animals", "--out", "named", "--json"]) == 0
    printed = capsys.readouterr()
    assert list_codes(json.loads(printed.out)["notes"]) == ["data-terms"]
    assert (place / "named" / "photo.png").read_bytes() == (place / "predictions" / "photo.png").read_bytes()


def test_an_empty_name_is_no_default(place, capsys):
    assert main(["predict", "photo.png", "--model", ""]) != 0
    assert "no model is named" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    [
        "predict photo.png --model animals",
        "eval animals photos",
        "bench animals --sizes 33 --precisions fp32 --rounds 1",
        "bench animals --sizes 33 --explain",
        "export animals --format safetensors",
        "export animals",
        "train photos --weights animals --out run",
        "train photos --weights animals --out run --dry-run",
        "train photos --weights animals --probe",
        "models show animals",
        "models",
    ],
)
def test_every_command_takes_the_name_and_prints_the_terms_once(line, place, capsys):
    words = line.split()
    if words[0] == "export" and len(words) == 2:
        pytest.importorskip("onnx")
    code = 3 if "--probe" in words else 0  # noise cannot be learned
    assert main([*words, *(SETTINGS if words[0] == "train" else ())]) == code
    printed = capsys.readouterr()
    counts = [" ".join(text.split()).count(TERMS) for text in (printed.err, printed.out)]
    # Scores keep their notes, so that eval shows them as well with what it measured.
    is_answer = words[0] == "models" or "--dry-run" in words
    assert counts == ([0, 1] if is_answer else [1, 1] if words[0] == "eval" else [1, 0])


def test_a_training_keeps_the_name_and_the_terms(place):
    assert main(["train", "photos", "--weights", "animals", *SETTINGS, "--out", "run"]) == 0
    run = RunFolder(place / "run")
    assert "  weights: animals\n" in run.config.read_text()
    assert "loaded from animals (SHA-256" in run.log.read_text()
    assert read_card(run.model).data_terms == (TERMS,)


def test_the_list_tells_data_classes_score_and_latency(place, capsys, shipped_tiny):
    assert main(["models"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for text in ("classes: background, cat", "trained on: tiny train, 12 images", "mIoU: 0.5000 on tiny val, 3 images"):
        assert text in shown
    assert f"terms of use: {TERMS}" in shown
    assert "latency: " in shown
    assert main(["models", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["shipped"]
    assert (found["name"], found["classes"], found["score"]) == ("animals", ["background", "cat"], 0.5)
    assert found["bytes"] == shipped_tiny.stat().st_size
    assert found["latency"]["seconds"] > 0
    assert found["data_terms"] == [TERMS]
    assert main(["models", "show", "animals", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["latency"] == found["latency"]


def test_a_folder_of_the_same_name_is_a_path_and_the_name_is_the_model(place, trained_run):
    shutil.copytree(trained_run, place / "animals")
    heard: list[str] = []
    named = atrous.load("animals", on_message=heard.append)
    assert named.classes == ("background", "cat")
    assert named.run is None
    assert [note.code for note in heard] == ["shipped-model", "data-terms"]
    assert "the path here is ./animals" in heard[0]
    own = atrous.load(trained_run).classes
    for path in ("./animals", Path("animals")):
        heard.clear()
        model = atrous.load(path, on_message=heard.append)
        assert model.classes == own
        assert not heard
    exported, _ = atrous.export("animals", format="safetensors")
    assert exported == Path("animals-half.safetensors")  # not in the folder of that run
    started = atrous.build("fcn-tiny", classes=["road", "sky"], weights="animals")
    assert read_card(atrous.save(started, "started.safetensors")).data_terms == (TERMS,)
    assert name_models(["animals", "./animals"]) == ["animals", "place/animals"]


def test_a_run_in_a_folder_of_that_name_is_the_run(place):
    options = {"model": "deeplabv3-tiny", "weights": "none", "crop": 65, "batch": 2, "iterations": 1}
    head = {"rates": [1, 2], "channels": 16}
    run = atrous.train("photos", out="animals", progress=False, set={"model.head": head}, **options)
    prediction = atrous.load(run.folder).predict("photo.png")
    atrous.predict("photo.png", run, "out", progress=False)
    np.testing.assert_array_equal(np.array(Image.open(place / "out" / "photo.png")), prediction.labels)
    network = atrous.build("deeplabv3-tiny", classes=2, weights=run, head=head)  # the tensors of fcn-tiny lack its head
    trained = atrous.load(run.folder).network.state_dict()
    for name, tensor in network.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), trained[name].numpy())


def test_a_model_given_as_data_is_named(place, capsys):
    assert main(["eval", "animals", "animals"]) == 2
    assert "the last word is DATA, and animals is a model" in capsys.readouterr().err
