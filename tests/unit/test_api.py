"""The public calls with a path and with a loaded model, under every option."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import atrous
from atrous import api
from atrous.cli.main import main
from atrous.core.errors import ConfigError, UsageError
from atrous.data.datasets.shapes import build_shapes
from atrous.networks.segmenter import Segmenter
from tiny import RUN_SIDE

EVALUATION = {"output_stride": 8, "scales": (0.5, 1.0), "flip": True, "window": 49, "precision": "bf16"}
OPTIONS = [
    {"output_stride": 16},
    {"scales": (1.0,)},
    {"flip": False},
    {"window": "none"},
    {"window": 33},
    {"crf": True},
]
OPENINGS = [{"device": "cpu"}, {"precision": "fp32"}, {"backend": "torch"}, {"trust": True}]


@pytest.fixture(scope="module")
def run(shapes_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose validations were not made in the usual way."""
    folder = tmp_path_factory.mktemp("runs") / "unusual"
    settings = {f"evaluation.{name}": value for name, value in EVALUATION.items()}
    model = {"model.weights": "none", "model.head": {"rates": [1, 2], "channels": 8}}
    options = {**model, **settings, "iterations": 2, "validations": 1, "batch": 2}
    atrous.train(shapes_folder, model="deeplabv3-tiny", out=folder, workers=0, crop=RUN_SIDE, set=options)
    return folder


def describe(protocol: object) -> dict[str, object]:
    return {name: getattr(protocol, name) for name in (*EVALUATION, "crf", "backend")}


def test_the_evaluation_section_holds_for_validations_and_for_eval(run: Path) -> None:
    written = json.loads((run / "metrics.json").read_text())
    expected = EVALUATION | {"crf": None, "backend": "torch"}
    assert {name: written["protocol"][name] for name in expected} == expected | {"scales": [0.5, 1.0]}
    scores = atrous.evaluate(run)
    assert describe(scores.protocol) == expected
    assert scores.miou == pytest.approx(written["miou"], abs=1e-9)


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_an_explicit_option_wins_for_a_path_and_a_loaded_model_alike(run: Path, option: dict) -> None:
    model = atrous.load(run)
    by_path, by_model = atrous.evaluate(run, **option), atrous.evaluate(model, **option)
    assert by_path == by_model
    protocol = describe(by_model.protocol)
    [(name, value)] = option.items()
    changed = EVALUATION | {"crf": None, "backend": "torch"} | {name: None if value == "none" else value}
    if name == "crf":
        assert protocol.pop("crf")
        del changed["crf"]
    assert protocol == changed


def test_a_models_own_precision_and_output_stride_are_respected(run: Path) -> None:
    model = atrous.load(run, precision="fp32")
    assert atrous.evaluate(model).protocol.precision == "fp32"
    assert atrous.evaluate(run, precision="fp32").protocol.precision == "fp32"
    model.output_stride = 4
    assert atrous.evaluate(model).protocol.output_stride == 4


def test_predictions_take_nothing_from_validations(run: Path) -> None:
    image = np.zeros((RUN_SIDE, RUN_SIDE, 3), dtype=np.uint8)
    assert atrous.load(run).predict(image).window is None
    assert atrous.load(run).predict(image, window=33).window == 33


def test_an_exported_file_follows_validations_as_far_as_it_can(run: Path, shapes_folder: Path, tmp_path: Path) -> None:
    file, _ = atrous.export(run, tmp_path / "m.onnx")
    protocol = atrous.evaluate(file, shapes_folder).protocol
    assert describe(protocol) == EVALUATION | {
        "output_stride": 16,
        "precision": "fp32",
        "crf": None,
        "backend": "onnxruntime",
    }


@pytest.mark.parametrize("opening", OPENINGS, ids=str)
def test_what_belongs_to_loading_is_refused_beside_a_loaded_model(run: Path, opening: dict, tmp_path: Path) -> None:
    model = atrous.load(run)
    [(name, value)] = opening.items()
    calls = [lambda: atrous.evaluate(model, **opening), lambda: api.search_crf(model, **opening)]
    calls.append(lambda: atrous.predict([], model, tmp_path, **opening))
    if name in ("device", "trust"):
        calls.append(lambda: api.bench([model], [(33, 33)], **opening))
    for call in calls:
        with pytest.raises(UsageError) as caught:
            call()
        assert caught.value.message == f"{name}: the model is loaded already, which settles this"
        assert caught.value.hint == f"atrous.load(path, {name}={value!r})"


def test_a_loaded_model_knows_its_run(run: Path, tmp_path: Path) -> None:
    model = atrous.load(run / "model.safetensors")
    assert model.run.path == run
    assert atrous.evaluate(model).data.endswith("val")
    assert len(api._find_calibration(None, model.run)) == 8
    copy = tmp_path / "model.safetensors"
    copy.write_bytes((run / "model.safetensors").read_bytes())
    alone = atrous.load(copy)
    assert alone.run is None
    with pytest.raises(UsageError, match="no data to score on"):
        atrous.evaluate(alone)


def test_a_loaded_model_is_timed_and_searched(run: Path, tmp_path: Path) -> None:
    found = api.bench([atrous.load(run), run], [(33, 33)], rounds=1, precisions=("fp32", "bf16"))
    assert [(row["precision"], row["output_stride"]) for row in found["rows"]] == [("fp32", 16), ("bf16", 16)] * 2
    assert api.search_crf(atrous.load(run), window="none", scales=(1.0,), flip=False)[0].miou >= 0


def test_predict_writes_labels_and_overlay_unless_told_otherwise(run: Path, tmp_path: Path) -> None:
    data = build_shapes(num_train=1, num_val=1, size=RUN_SIDE).val
    Image.fromarray(data.get(0).image).save(tmp_path / "a.png")
    record = atrous.predict(tmp_path / "a.png", run, tmp_path / "python")
    assert [row["files"] for row in record.done] == [["a.png", "a_overlay.jpg"]]
    assert (
        main(["predict", str(tmp_path / "a.png"), "--model", str(run), "--out", str(tmp_path / "words"), "--quiet"])
        == 0
    )
    assert sorted(path.name for path in (tmp_path / "words").iterdir()) == [
        "a.png",
        "a_overlay.jpg",
        "predictions.json",
    ]
    with pytest.raises(UsageError, match="no format 'overly'"):
        atrous.predict(tmp_path / "a.png", run, tmp_path / "other", formats=["overly"])


@pytest.mark.parametrize("call", ["build", "load", "train", "evaluate", "predict", "export"])
def test_an_argument_of_a_wrong_type_is_one_sentence(call: str) -> None:
    function = getattr(atrous, call)
    needed = {"build": {"classes": 2}, "load": {"path": "x"}, "train": {"data": "shapes"}, "evaluate": {"model": "x"}}
    needed |= {"predict": {"inputs": "a", "model": "x", "out": "o"}, "export": {"model": "x"}}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD or name == "data":
            continue
        with pytest.raises((UsageError, ConfigError), match=f"^{name} is "):
            function(**(needed[call] | {name: object()}))


def test_other_wrong_values_are_words_too(tiny_network: Segmenter) -> None:
    with pytest.raises(UsageError, match=r"path is None"):
        atrous.load(None)
    with pytest.raises(UsageError, match=r"classes is 'a' \(str\)"):
        atrous.build("fcn-lite0", classes="a")
    with pytest.raises(UsageError, match=r"model is Segmenter"):
        atrous.evaluate(tiny_network)
    with pytest.raises(UsageError, match="data is 3"):
        atrous.evaluate("x", 3)
    with pytest.raises(ConfigError, match="window is 3"):
        atrous.evaluate("nowhere", window=3)
