"""The public calls with a path and with a loaded model, under every option."""

from __future__ import annotations

import copy
import inspect
import io
import json
import math
import pickle
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import atrous
from atrous import api
from atrous.cli.main import main
from atrous.config.load import load_config
from atrous.core.errors import ConfigError, DataError, MachineError, ModelFileError, UsageError
from atrous.core.files import load_json
from atrous.core.labels import LabelSpace
from atrous.data.datasets.shapes import build_shapes
from atrous.inference import BACKENDS
from atrous.inference.exported import is_export
from atrous.networks.segmenter import Segmenter
from atrous.runs.stages import Run
from tiny import RUN_OPTIONS, RUN_SIDE

EVALUATION = {"output_stride": 8, "scales": (0.5, 1.0), "flip": True, "window": 49, "precision": "bf16"}
OPTIONS = [
    {"output_stride": 16},
    {"scales": (1.0,)},
    {"flip": False},
    {"window": "none"},
    {"window": 33},
    {"crf": True},
]
SHAPES = {"data.options": {"num_train": 16, "num_val": 1, "size": RUN_SIDE}}
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
    assert len(api._find_calibration(None, model)) == 8
    copy = tmp_path / "model.safetensors"
    copy.write_bytes((run / "model.safetensors").read_bytes())
    alone = atrous.load(copy)
    assert alone.run is None
    with pytest.raises(UsageError, match="no data to score on"):
        atrous.evaluate(alone)


def test_a_loaded_model_is_timed_and_searched(run: Path, tmp_path: Path) -> None:
    found = api.bench([atrous.load(run), run], [(33, 33)], rounds=1, precisions=("fp32", "bf16"))
    assert [(row["precision"], row["output_stride"]) for row in found["rows"]] == [("fp32", 16), ("bf16", 16)] * 2
    given = {"window": "none", "scales": (1.0,), "flip": False}
    [plain] = [trial for trial in api.search_crf(atrous.load(run), **given) if trial.options is None]
    assert plain.miou == atrous.evaluate(run, **given).miou


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


def test_backend_auto_is_chosen_for_the_images_left_and_a_loaded_model_keeps_its_own(run: Path, tmp_path: Path) -> None:
    data = build_shapes(num_train=4, num_val=1, size=RUN_SIDE).train
    for number in range(4):
        Image.fromarray(data.get(number).image).save(tmp_path / f"{number}.png")
    atrous.predict(tmp_path / "0.png", run, tmp_path / "auto")
    record = load_json(tmp_path / "auto" / "predictions.json")
    assert (record["protocol"]["backend"], record["backend"]["chosen"]) == ("auto", "torch")
    assert record["backend"]["reason"] in (
        "1 image: too few for another backend to pay",
        "no other backend can be used here",
    )
    files = sorted(tmp_path.glob("*.png"))
    notes: list[str] = []
    again = atrous.predict(files, run, tmp_path / "auto", on_message=notes.append)
    assert len(again.kept) == 1
    whole = load_json(tmp_path / "auto" / "predictions.json")["backend"]
    atrous.predict(files, run, tmp_path / "auto")
    assert load_json(tmp_path / "auto" / "predictions.json")["backend"] == whole  # of the images that are kept
    loaded = atrous.load(run)
    atrous.predict(files, loaded, tmp_path / "loaded")
    record = load_json(tmp_path / "loaded" / "predictions.json")
    assert record["protocol"]["backend"] == "torch"
    assert "backend" not in record
    for file in files:
        assert (tmp_path / "auto" / file.name).read_bytes() == (tmp_path / "loaded" / file.name).read_bytes()


NOWHERE = {"model": "nowhere", "models": ["nowhere"], "path": "nowhere", "inputs": "nowhere", "data": "nowhere"}
NEEDED = NOWHERE | {"out": "nowhere/out", "classes": ["a", "b"], "file": "nowhere.safetensors", "sizes": [(33, 33)]}
NEEDED |= {"folder": "nowhere", "source": "nowhere.png", "name": "fcn-tiny"}
KINDS: list[object] = [
    None,
    True,
    -1,
    "a\0b",
    3.5,
    math.nan,
    "text",
    b"bytes",
    "",
    [],
    [None],
    ["a", 3],
    (),
    (1, 2),
    {},
    {1: 2},
]
KINDS += [{"a": None}, {"training.lr": object()}, object(), object, len, Path("x"), np.zeros(2), LabelSpace(("a", "b"))]


def list_calls(run: Path) -> dict[str, Callable[..., object]]:
    """Return the public calls by name."""
    functions = (atrous.build, atrous.load, atrous.save, atrous.train, atrous.evaluate, atrous.predict, atrous.export)
    model = atrous.load(run)
    prediction = model.predict(np.zeros((RUN_SIDE, RUN_SIDE, 3), dtype=np.uint8))
    calls = {function.__name__: function for function in (*functions, api.bench, api.search_crf)}
    return calls | {"Model": atrous.Model, "Model.predict": model.predict, "Prediction.save": prediction.save}


CALLS = ("build", "load", "save", "train", "evaluate", "predict", "export", "bench", "search_crf", "Model")
CALLS += ("Model.predict", "Prediction.save")


@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_kind_of_thing_is_refused_in_words(
    call: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    function = list_calls(run)[call]
    parameters = inspect.signature(function).parameters
    needed = {name: value for name, value in NEEDED.items() if name in parameters}
    if call == "Model":
        needed["source"] = atrous.build("fcn-tiny", classes=2)
    for name, parameter in parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            continue
        for value in KINDS:
            error = catch(lambda value=value, name=name: function(**(needed | {name: value})))
            assert error is None or isinstance(error, atrous.AtrousError), (name, value, error)
            assert len(str(error)) < 800, (name, value)
            if type(value) is object and name not in ("data", "source"):
                assert f"{name} is " in error.message, (name, value, error)


def catch(call: Callable[[], object]) -> Exception | None:
    try:
        call()
    except Exception as error:
        return error
    return None


def test_wrong_values_inside_lists_are_named(tiny_network: Segmenter) -> None:
    with pytest.raises(UsageError, match="path is None"):
        atrous.load(None)
    with pytest.raises(UsageError, match=r"classes is 'a' \(str\)"):
        atrous.build("fcn-lite0", classes="a")
    with pytest.raises(UsageError, match=r"inputs is \[3\]") as caught:
        atrous.predict([3], "x", "out")
    assert caught.value.hint == "Allowed: text or a Path or a list of text or a Path."
    with pytest.raises(UsageError, match="data is 3"):
        atrous.evaluate("x", 3)
    with pytest.raises(ConfigError, match="`window` is 3"):
        atrous.evaluate("nowhere", window=3)
    for sizes, rounds in (([], 1), ([(0, 33)], 1), ([(33, 33)], 0)):
        with pytest.raises(UsageError, match="at least 1"):
            api.bench(["nowhere"], sizes, rounds=rounds)


@pytest.fixture
def named_network() -> Segmenter:
    """A network that no training has made, with named classes."""
    torch.manual_seed(0)
    network = atrous.build("deeplabv3-tiny", classes={0: "sky", 7: "road", 200: "car"}, head={"rates": [1, 2]})
    for buffer in network.buffers():
        if buffer.is_floating_point() and buffer.dim() == 1:
            buffer.uniform_(0.5, 1.5)
    return network


def test_a_network_of_a_plain_loop_is_a_model_everywhere(
    named_network: Segmenter, shapes_folder: Path, tmp_path: Path
) -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    expected = atrous.Model(named_network).predict(image)
    file = atrous.save(named_network, tmp_path / "model.safetensors")
    loaded = atrous.load(file)
    assert loaded.classes == ("sky", "road", "car")
    np.testing.assert_array_equal(loaded.predict(image).labels, expected.labels)
    np.testing.assert_array_equal(loaded.predict(image).confidence, expected.confidence)
    record = atrous.predict(tmp_path / "a.png", named_network, tmp_path / "out", progress=False)
    with Image.open(tmp_path / "out" / record.done[0]["files"][0]) as labels:
        np.testing.assert_array_equal(np.asarray(labels), expected.labels)
    with pytest.raises(UsageError, match=r"ends in \.onnx"):  # taken as a model: only the name is wrong
        atrous.export(named_network, tmp_path / "m.bin")
    assert api.bench([named_network], [(33, 33)], rounds=1, precisions=["fp32"])["rows"][0]["name"] == "model 1"
    with pytest.raises(DataError):  # the data have other ids
        atrous.evaluate(named_network, shapes_folder)


def test_a_network_without_classes_is_refused_with_the_way_to_name_them(tmp_path: Path) -> None:
    network = atrous.build("fcn-tiny", classes=2)
    calls: list[Callable[[], object]] = [
        lambda: atrous.evaluate(network),
        lambda: atrous.predict("x", network, tmp_path),
        lambda: atrous.export(network),
        lambda: api.bench([network], [(33, 33)]),
        lambda: atrous.save(network, tmp_path / "m.safetensors"),
        lambda: atrous.Model(network),
    ]
    for call in calls:
        with pytest.raises(UsageError, match="classes are not known") as caught:
            call()
        assert "classes=[" in caught.value.hint
    with pytest.raises(UsageError, match="3 names, and the network has 2 classes"):
        atrous.Model(network, classes=["a", "b", "c"])
    for classes in (["a", "a"], ["a", ""], [], {0: "a", 1: "a"}, {-1: "a", 3: "b"}):
        with pytest.raises(UsageError, match="classes"):
            atrous.Model(network, classes=classes)
    assert atrous.Model(network, classes=["a", "b"]).classes == ("a", "b")


def test_a_saved_network_is_as_it_was(named_network: Segmenter, tmp_path: Path) -> None:
    named_network.output_stride = 8
    named_network.mean.fill_(0.3)
    loaded = atrous.load(atrous.save(named_network.train(), tmp_path / "m.safetensors"))
    assert loaded.output_stride == 8
    assert loaded.network.mean.flatten().tolist() == pytest.approx([0.3] * 3)
    image = torch.rand(1, 3, 40, 50)
    with torch.inference_mode():
        assert torch.equal(loaded.network(image), named_network.eval()(image))
    assert loaded.label_space.ids == (0, 7, 200)


CHANGES: dict[str, Callable[[Segmenter], object]] = {
    "another norm": lambda network: setattr(network.backbone.blocks[0], "1", torch.nn.GroupNorm(2, 8)),
    "another activation": lambda network: setattr(network.backbone.blocks[0], "2", torch.nn.SiLU()),
    "another layer": lambda network: network.head.add_module("more", torch.nn.Linear(2, 2)),
    "a parametrisation": lambda network: torch.nn.utils.parametrizations.weight_norm(network.backbone.blocks[0][0]),
    "no weights": lambda network: network.to("meta"),
    "not built": lambda network: setattr(network, "settings", None),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_network_that_a_file_cannot_describe_is_not_saved(
    named_network: Segmenter, tmp_path: Path, change: str
) -> None:
    CHANGES[change](named_network)
    with pytest.raises(UsageError) as caught:
        atrous.save(named_network, tmp_path / "m.safetensors")
    assert "state_dict" in caught.value.hint or "real device" in caught.value.hint
    assert not list(tmp_path.iterdir())


def test_the_classes_of_a_trained_model_can_be_named(run: Path, tmp_path: Path) -> None:
    before = atrous.load(run)
    names = [f"class number {index}" for index in range(len(before.classes))]
    renamed = atrous.load(atrous.save(run, tmp_path / "m.safetensors", classes=names))
    assert renamed.classes == tuple(names)
    assert renamed.label_space.ids == before.label_space.ids
    assert renamed.card.score == before.card.score


def write_state(path: Path) -> Path:
    torch.save(atrous.build("fcn-tiny", classes=2).state_dict(), path)
    return path


def write_tensors(path: Path) -> Path:
    save_file(atrous.build("fcn-tiny", classes=2).state_dict(), path)
    return path


@pytest.mark.parametrize(
    ("name", "write"), [("state_dict.pth", write_state), ("model.pt", write_state), ("m.safetensors", write_tensors)]
)
def test_tensors_alone_come_with_the_way_to_make_a_model_of_them(
    tmp_path: Path, name: str, write: Callable[[Path], Path]
) -> None:
    path = write(tmp_path / name)
    with pytest.raises(ModelFileError, match="network and its classes are not known") as caught:
        atrous.load(path)
    code = caught.value.hint[caught.value.hint.index("atrous.save(") :].partition(". ")[0]
    code = code.replace("NAME", "'fcn-tiny'").replace("[...]", "['a', 'b']")
    monkey = code.replace("'model.safetensors'", f"{str(tmp_path / 'model.safetensors')!r}")
    eval(monkey, {"atrous": atrous})
    assert atrous.load(tmp_path / "model.safetensors").classes == ("a", "b")


OWN: dict[str, Callable[[Path, Path], object]] = {
    "model.safetensors": lambda run, path: atrous.save(run, path),
    "model.onnx": lambda run, path: atrous.export(run, path),
    "model.xml": lambda run, path: atrous.export(run, path, format="openvino"),
    "model.pt2": lambda run, path: atrous.export(run, path, format="pt2"),
    "bench.json": lambda run, path: api.bench([run], [(33, 33)], rounds=1, precisions=["fp32"], out=path.parent),
}
FORMATS = {".onnx": "onnx", ".xml": "openvino", ".pt2": "pt2"}


@pytest.mark.parametrize("name", OWN)
def test_only_files_of_their_own_are_replaced(
    run: Path, tmp_path: Path, export_tiny: Callable[..., Path], name: str
) -> None:
    path, write = tmp_path / name, OWN[name]
    if path.suffix in FORMATS:  # an export takes seconds: whether it may replace the file is asked
        exported = export_tiny(FORMATS[path.suffix])
        for suffix in (".xml", ".bin") if path.suffix == ".xml" else (path.suffix,):
            path.with_suffix(suffix).write_bytes(exported.with_suffix(suffix).read_bytes())
        assert is_export(path)
    else:
        write(run, path)
        write(run, path)
    beside = [other for other in tmp_path.iterdir() if other != path]
    assert len(beside) == (path.suffix in (".xml", ".json"))
    for victim in (path, *beside):
        content = {other: other.read_bytes() for other in tmp_path.iterdir()}
        path.unlink()
        victim.write_bytes(b"of another program")
        with pytest.raises(UsageError, match="exists, and would be lost") as caught:
            write(run, path)
        assert "overwrite=True" in caught.value.hint
        assert victim.read_bytes() == b"of another program"
        for other, old in content.items():
            other.write_bytes(old)


def test_the_model_of_a_run_is_not_replaced(run: Path, named_network: Segmenter) -> None:
    with pytest.raises(UsageError, match="would be lost"):
        atrous.save(named_network, run / "model.safetensors")


def test_a_preview_replaces_a_preview_alone(shapes_folder: Path, tmp_path: Path) -> None:
    words = ["train", str(shapes_folder), "--preview", "--model", "fcn-tiny", "--crop", "65", "--out", str(tmp_path)]
    assert main([*words, "--quiet"]) == main([*words, "--quiet"]) == 0
    (tmp_path / "preview.png").write_bytes(b"of somebody else")
    assert main([*words, "--quiet"]) == 2
    assert (tmp_path / "preview.png").read_bytes() == b"of somebody else"


def test_what_calls_return_is_one_line(run: Path, named_network: Segmenter, shapes_folder: Path) -> None:
    model = atrous.load(run)
    prediction = model.predict(np.zeros((RUN_SIDE, RUN_SIDE, 3), dtype=np.uint8))
    splits = api.rebuild_splits(run)
    scores = atrous.evaluate(run, progress=False)
    result = atrous.Run(run, scores)
    things = (
        model,
        prediction,
        splits,
        splits.val,
        scores,
        result,
        named_network,
        build_shapes(num_train=1, num_val=1),
    )
    for thing in things:
        assert "\n" not in repr(thing)
        assert 20 < len(repr(thing)) < 400, repr(thing)
    assert repr(model).startswith("Model(deeplabv3-tiny, ")
    assert "Segmenter(deeplabv3-tiny, 3 classes, output stride 16, " in repr(named_network)
    assert f"{RUN_SIDE} x {RUN_SIDE} pixels" in repr(prediction)


def test_results_show_themselves_in_a_notebook(run: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (100, 2000, 3), dtype=np.uint8)
    with Image.open(io.BytesIO(atrous.load(run).predict(image)._repr_png_())) as shown:
        assert max(shown.size) <= 768
    scores = atrous.evaluate(run, progress=False)
    table = scores._repr_html_()
    assert table.count("<tr>") == 1 + len(scores.classes)
    assert f"mIoU {scores.miou:.4f}" in table
    curves = atrous.Run(run, scores)._repr_html_()
    assert curves.count("<svg") == 3
    assert "Validation mIoU" in curves
    assert table in curves


def test_a_stride_that_the_model_cannot_have_names_those_it_can_have_on_every_way(
    shapes_folder: Path, trained_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = np.zeros((40, 50, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    model = atrous.load(trained_run)
    file, run, out = str(tmp_path / "a.png"), str(trained_run), str(tmp_path / "out")
    head = {"rates": [1, 2]}
    settings = {"model.head": head, "training.crop": RUN_SIDE, "model.weights": "none"}

    def switch() -> None:
        model.network.output_stride = 7

    calls = {
        "predict": lambda: model.predict(image, output_stride=7),
        "predict files": lambda: atrous.predict(file, model, out, output_stride=7),
        "evaluate": lambda: atrous.evaluate(model, output_stride=7),
        "export": lambda: atrous.export(model, tmp_path / "m.onnx", output_stride=7),
        "bench": lambda: api.bench([model], [(33, 33)], output_strides=[7]),
        "build": lambda: atrous.build("deeplabv3-tiny", classes=2, output_stride=7, head=head),
        "switch": switch,
        **{
            key: lambda key=key: atrous.train(shapes_folder, model="deeplabv3-tiny", out=out, set=settings | {key: 7})
            for key in ("model.output_stride", "evaluation.output_stride")
        },
    }
    for name, call in calls.items():
        with pytest.raises(ConfigError, match="output stride 7 is not offered by this network") as caught:
            call()
        assert caught.value.hint.startswith("Allowed: 4, 8, 16."), name  # rates 1 and 2 are not whole at 32
    commands = (
        ["predict", file, "--model", run, "--out", out, "--output-stride", "7"],
        ["eval", run, "--output-stride", "7"],
        ["export", run, "--out", f"{out}.onnx", "--output-stride", "7"],
        ["bench", run, "--sizes", "33", "--output-strides", "7"],
        ["train", str(shapes_folder), *RUN_OPTIONS, "--out", out, "--set", "model.output_stride=7"],
        ["models", "show", "deeplabv2-resnet18", "--output-stride", "7"],
    )
    for command in commands:
        assert main(command) == 2, command
        assert "Allowed: 4, 8, 16." in capsys.readouterr().err, command


def test_int8_is_a_precision_of_files_that_were_exported_with_it(trained_run: Path) -> None:
    with pytest.raises(ConfigError, match="precision int8: backend 'torch' runs networks in fp32 and bf16") as caught:
        atrous.load(trained_run, precision="int8").predict(np.zeros((40, 50, 3), dtype=np.uint8))
    assert "int8=True" in caught.value.hint


def test_validations_of_a_backend_that_does_not_run_on_the_device_are_followed_by_torch(run: Path, monkeypatch) -> None:
    model = atrous.load(run, device="cpu")
    model.card = replace(model.card, protocol={**model.card.protocol, "backend": "openvino"})
    backend = BACKENDS.load("openvino")
    assert model.as_validated().opening.backend == "openvino"
    monkeypatch.setattr(backend, "list_devices", lambda: ("cuda",))
    said: list[str] = []
    assert model.as_validated(said.append).engine.backend == "torch"
    assert said == ["validations were computed by openvino, which does not run on cpu: torch does"]


CALLS = {
    "load": lambda run, data, folder: atrous.load(run),
    "evaluate": lambda run, data, folder: atrous.evaluate(run),
    "predict": lambda run, data, folder: atrous.predict(data / "images" / "val", run, folder),
    "train": lambda run, data, folder: atrous.train(
        data, model="fcn-tiny", weights="none", iterations=1, crop=33, batch=2, out=folder / "run"
    ),
    "plan": lambda run, data, folder: api.plan_training(load_config(options={"source": str(data), "weights": "none"})),
    "preview": lambda run, data, folder: api.preview_training(
        load_config(options={"source": str(data), "out": str(folder), "weights": "none"})
    ),
    "probe": lambda run, data, folder: api.probe_training(
        load_config(options={"source": str(data), "model": "fcn-tiny", "weights": "none", "crop": 33})
    ),
    "models": lambda run, data, folder: main(["models", "show", "fcn-tiny"]),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_no_call_moves_the_callers_random_numbers(run: Path, shapes_folder: Path, tmp_path: Path, call) -> None:
    def read() -> tuple[object, ...]:
        return random.getstate(), str(np.random.get_state()), torch.random.get_rng_state().tolist()

    before = read()
    call(run, shapes_folder, tmp_path)
    assert read() == before


@pytest.mark.parametrize(
    "form", [str, Path, lambda run: Run(Path(run), None), lambda run: str(run / "model.safetensors")]
)
def test_a_run_is_a_model_wherever_weights_are_asked_for(run: Path, tmp_path: Path, form) -> None:
    expected = atrous.load(run).network.state_dict()
    options = {"output_stride": 16, "head": {"rates": [1, 2], "channels": 8}}
    network = atrous.build("deeplabv3-tiny", classes=6, weights=form(run), **options)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in network.state_dict().items())
    settings = {"model.head": options["head"], "training.lr": 1e-9, "training.norm": "frozen"}
    given = {"iterations": 1, "crop": 65, "batch": 2, "validations": 1, "out": tmp_path / "run"}
    trained = atrous.train("shapes", model="deeplabv3-tiny", weights=form(run), set=settings | SHAPES, **given)
    tensors = trained.model.network.state_dict()
    assert all(torch.allclose(tensor, expected[name]) for name, tensor in tensors.items() if "weight" in name)
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"model: {{name: deeplabv3-tiny, weights: {json.dumps(str(run))}}}\ntraining: {{iterations: 1}}\n"
    )
    words = ["--crop", "65", "--set", "model.head={rates: [1, 2], channels: 8}", "--dry-run"]
    words += ["--set", f"data.options={json.dumps(SHAPES['data.options'])}"]
    assert main(["train", "shapes", "--recipe", str(recipe), *words]) == 0


def test_a_folder_without_a_model_is_refused_as_weights_before_the_data_are_read(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"holds no model\.safetensors"):
        atrous.train(tmp_path / "nowhere", weights=tmp_path, model="fcn-tiny", out=tmp_path / "run")
    with pytest.raises(ModelFileError, match=r"model\.weights: no/such/run: no such file or folder"):
        atrous.train(tmp_path / "nowhere", weights="no/such/run", model="fcn-tiny", out=tmp_path / "run")


@pytest.mark.parametrize("place", ["file/below", "/proc/x"])
@pytest.mark.parametrize(
    "call",
    {
        "predict": lambda out: atrous.predict("a.png", "model.safetensors", out),
        "bench": lambda out: api.bench(["model.safetensors"], [(33, 33)], out=out),
        "export": lambda out: atrous.export("model.safetensors", out / "a.onnx"),
        "save": lambda out: atrous.save("model.safetensors", out / "a.safetensors"),
    }.values(),
)
def test_a_place_that_cannot_be_written_is_refused_before_the_model_is_opened(tmp_path, monkeypatch, call, place):
    monkeypatch.setattr(api, "open_model", lambda *_: pytest.fail("opened"))
    (tmp_path / "file").touch()
    with pytest.raises((UsageError, MachineError)):
        call(tmp_path / place)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("predictions.json", lambda path: atrous.predict("a.png", "model.safetensors", path.parent)),
        ("bench.json", lambda path: api.bench(["model.safetensors"], [(33, 33)], out=path.parent)),
        ("bench.png", lambda path: api.bench(["model.safetensors"], [(33, 33)], out=path.parent)),
        ("a.onnx", lambda path: atrous.export("model.safetensors", path)),
        ("a.safetensors", lambda path: atrous.save("model.safetensors", path)),
    ],
)
def test_files_of_somebody_else_are_found_before_the_model_is_opened(tmp_path, monkeypatch, name, call):
    monkeypatch.setattr(api, "open_model", lambda *_: pytest.fail("opened"))
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match=re.escape(name)):
        call(tmp_path / name)


def test_a_model_in_a_folder_that_cannot_be_written_is_not_converted(tmp_path, monkeypatch, tiny_network):
    monkeypatch.setattr(api, "export_network", lambda *_, **__: pytest.fail("converted"))
    monkeypatch.setattr(api, "_choose_export_folder", lambda *_: tmp_path / "file" / "below")
    (tmp_path / "file").touch()
    model = atrous.Model(tiny_network, classes=["sky", "road", "car"])
    with pytest.raises(UsageError):
        atrous.export(model)


def test_a_model_is_neither_pickled_nor_copied():
    model = atrous.Model(atrous.build("fcn-tiny", classes=["a", "b"]))
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(UsageError, match="cannot be pickled or copied"):
            attempt(model)


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        *(
            ("progres", "progress"),
            ("on_mesage", "on_message"),
            ("dta", "data"),
            ("modl", "model"),
            ("recip", "recipe"),
        ),
        *(("outt", "out"), ("resum", "resume"), ("sets", "set"), ("epoch", "training.epochs")),
        ("worker", "output.workers"),
    ],
)
def test_an_unknown_keyword_of_train_is_answered_with_the_nearest_one(wrong: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{wrong} is unknown\nDid you mean `?{meant}`?\?"):
        atrous.train(**{"data": "d", wrong: False})


def test_a_setting_given_by_keyword_and_in_set_is_refused() -> None:
    for keywords in ({"model": "fcn-tiny", "set": {"model.name": "x"}}, {"lr": 1.0, "set": {"training.lr": 2.0}}):
        with pytest.raises(ConfigError, match="is given twice"):
            atrous.train("d", **keywords)
