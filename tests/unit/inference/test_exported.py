from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import atrous
from atrous.core.errors import ConfigError, MachineError, ModelFileError, UsageError
from atrous.core.inference_options import Opening
from atrous.core.install import describe_install
from atrous.core.seal import SEAL_KEY
from atrous.inference import BACKENDS
from atrous.inference.exported import read_file
from atrous.inference.folders.writer import save_predictions
from atrous.scoring.crf_search import search_crf

pytestmark = pytest.mark.filterwarnings("ignore:.*")  # the exporters' own


@pytest.fixture
def logits_file(export_tiny: Callable[..., Path]) -> Path:
    return export_tiny("onnx")


@pytest.fixture
def labels_file(export_tiny: Callable[..., Path]) -> Path:
    return export_tiny("onnx", argmax=True)


def change(path: Path, folder: Path, **metadata: str) -> Path:
    """Return a copy without a seal whose metadata say something else; an empty word takes an entry away."""
    model = onnx.load(path)
    kept = {entry.key: entry.value for entry in model.metadata_props} | {SEAL_KEY: ""} | metadata
    onnx.helper.set_model_props(model, {key: value for key, value in kept.items() if value})
    changed = folder / "changed.onnx"
    onnx.save(model, changed)
    return changed


def test_what_is_no_exported_file_is_refused(logits_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"nothing\.onnx: no such file"):
        atrous.load(tmp_path / "nothing.onnx")
    (tmp_path / "noise.onnx").write_bytes(np.random.default_rng(0).bytes(4096))
    (tmp_path / "noise.xml").write_text("<xml>no network</xml>", encoding="utf-8")
    shutil.copy(logits_file, tmp_path / "disguised.xml")
    (tmp_path / "cut.onnx").write_bytes(logits_file.read_bytes()[:2000])
    for name in ("noise.onnx", "noise.xml", "disguised.xml", "cut.onnx"):
        expected = "cannot be read|was not written by atrous|its weights are missing"
        with pytest.raises(ModelFileError, match=f"{name}: ({expected})"):
            atrous.load(tmp_path / name)
    with pytest.raises(ModelFileError, match=r"cut\.onnx"):
        atrous.load(tmp_path / "cut.onnx", backend="openvino")


def test_a_foreign_graph_is_refused(logits_file: Path, tmp_path: Path) -> None:
    for backend in ("onnxruntime", "openvino"):
        with pytest.raises(ModelFileError, match="was not written by atrous") as caught:
            atrous.load(change(logits_file, tmp_path, format=""), backend=backend)
        assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    "metadata",
    [
        {"card": ""},
        {"card": "[" * 100_000},
        {"card": "{}"},
        {"graph": json.dumps({"output": "images", "output_stride": 16, "aligned": True, "bytes_per_pixel": 1})},
        {"graph": "7"},
        {"format_version": "many"},
    ],
    ids=str,
)
def test_a_damaged_description_is_refused(logits_file: Path, tmp_path: Path, metadata: dict[str, str]) -> None:
    with pytest.raises(ModelFileError, match="its description is damaged"):
        atrous.load(change(logits_file, tmp_path, **metadata))


def test_a_later_format_is_refused(logits_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="has format 99; this atrous reads up to 1"):
        atrous.load(change(logits_file, tmp_path, format_version="99"))


def test_a_graph_that_is_not_what_is_said_of_it_is_refused(
    labels_file: Path, logits_file: Path, tmp_path: Path
) -> None:
    said = {entry.key: entry.value for entry in onnx.load(logits_file).metadata_props}
    model = atrous.load(change(labels_file, tmp_path, graph=said["graph"]))
    with pytest.raises(ModelFileError, match=r"returned \(1, 40, 50\), but its description says \(1, 3, 40, 50\)"):
        model.predict(np.zeros((40, 50, 3), dtype=np.uint8))


def test_a_graph_whose_weights_lie_elsewhere_is_refused(logits_file: Path, tmp_path: Path) -> None:
    """The usual mistake: a file from elsewhere names a file of this machine as its weights, and it is read."""
    (tmp_path / "secret").write_bytes(bytes(100_000))
    model = onnx.load(logits_file)
    tensor = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="secret")
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    for backend in ("onnxruntime", "openvino"):
        with pytest.raises(ModelFileError, match=r"m\.onnx: its weights are stored in other files"):
            atrous.load(tmp_path / "m.onnx", backend=backend)


def test_a_program_that_may_run_code_needs_trust(export_tiny: Callable[..., Path]) -> None:
    path = export_tiny("pt2")
    with pytest.raises(ModelFileError, match="can run any code when it is opened") as caught:
        atrous.load(path)
    assert "`trust=True`" in caught.value.hint
    assert atrous.load(path, trust=True).classes == ("sky", "road", "car")


def test_the_output_stride_is_fixed(logits_file: Path) -> None:
    model = atrous.load(logits_file)
    assert model.output_stride == 16
    with pytest.raises(ConfigError, match="was exported at 16, which is fixed"):
        model.predict(np.zeros((40, 50, 3), dtype=np.uint8), output_stride=8)
    with pytest.raises(ConfigError, match="the output stride of an exported file is fixed"):
        model.output_stride = 8
    with pytest.raises(UsageError, match="is an exported file, not a network"):
        _ = model.network


@pytest.mark.parametrize(
    ("options", "word"),
    [({"scales": (0.5, 1)}, "scales"), ({"flip": True}, "flip"), ({"window": 65}, "window"), ({"crf": True}, "crf")],
)
def test_labels_alone_cannot_be_averaged(labels_file: Path, options: dict[str, object], word: str) -> None:
    with pytest.raises(ConfigError, match=f"{word}: .* gives labels alone") as caught:
        atrous.load(labels_file).predict(np.zeros((40, 50, 3), dtype=np.uint8), **options)
    assert "`argmax=True`" in caught.value.hint


def test_labels_alone_have_no_confidence(labels_file: Path, tmp_path: Path) -> None:
    model = atrous.load(labels_file)
    image = np.zeros((40, 50, 3), dtype=np.uint8)
    with pytest.raises(UsageError, match="probabilities: the model is a file that gives labels alone"):
        model.predict(image, probabilities=True)
    with pytest.raises(UsageError, match="min_confidence: the model"):
        model.predict(image, min_confidence=0.5)
    with pytest.raises(UsageError, match="confidence: the model"):
        model.predict(image).save(tmp_path, confidence=True)
    with pytest.raises(UsageError, match="confidence, probabilities: the model"):
        save_predictions(model.build_labeller(), [], tmp_path, formats=["confidence"], probabilities=True)
    with pytest.raises(UsageError, match="crf_search: the model"):
        search_crf(model.build_labeller(), [])
    assert model.predict(image).confidence is None
    assert set(np.unique(model.predict(image).labels)) <= {0, 7, 200}


def test_labels_alone_of_a_image_that_does_not_fit_are_refused(labels_file: Path) -> None:
    model = atrous.load(labels_file)
    needed = model.build_labeller().backend.measure_bytes_per_pixel()
    model.engine.budget_mib = math.ceil(needed * 170**2 / 2**20)  # a machine whose memory holds 170 x 170 pixels
    with pytest.raises(MachineError, match="cannot go over it in windows"):
        model.build_labeller().label_image(np.zeros((400, 400, 3), dtype=np.uint8))


def test_a_backend_that_cannot_run_it_is_refused(logits_file: Path, tiny_network: object, tiny_card: object) -> None:
    with pytest.raises(ConfigError, match=r"backend 'pt2' does not run \.onnx files") as caught:
        atrous.load(logits_file, backend="pt2")
    assert "onnxruntime, openvino" in caught.value.hint
    living = atrous.Model(tiny_network, tiny_card, Opening(backend="pt2"))
    with pytest.raises(ConfigError, match="backend 'pt2' runs exported files, not networks"):
        living.build_labeller()
    with pytest.raises(ConfigError, match="unknown backend 'tensorrt'"):
        atrous.Model(tiny_network, tiny_card, Opening(backend="tensorrt")).build_labeller()


def test_a_precision_that_it_does_not_run_in_is_refused(logits_file: Path) -> None:
    with pytest.raises(ConfigError, match=r"precision bf16: .*\.onnx runs in fp32 with this backend"):
        atrous.load(logits_file, precision="bf16")


def test_a_missing_package_names_its_extra(logits_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for backend, package, extra in (("onnxruntime", "onnxruntime", "onnx"), ("openvino", "openvino", "openvino")):
        modules = __import__("sys").modules
        monkeypatch.setitem(modules, package, None)
        monkeypatch.delitem(modules, BACKENDS[backend].partition(":")[0], raising=False)
        with pytest.raises(MachineError, match=f"backend '{backend}' needs the package {package}") as caught:
            atrous.load(logits_file, backend=backend)
        assert caught.value.hint == describe_install(package, extra)


def test_the_file_is_read_without_being_opened(logits_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BACKENDS.load("onnxruntime"), "_open", lambda *_: pytest.fail("it was opened"))
    assert read_file(logits_file, backend="onnxruntime").num_classes == 3


def test_floats_are_rounded_to_the_steps_of_bytes(logits_file: Path) -> None:
    backend = atrous.load(logits_file).build_labeller().backend
    image = torch.randint(0, 256, (1, 3, 40, 50), dtype=torch.uint8)
    assert torch.equal(backend(image).logits, backend(image / 255).logits)


GONE_AND_SIGNALLED = """
import faulthandler, gc, os, signal, sys, threading
import numpy as np
import atrous

faulthandler.enable()  # gives the main thread a stack for signals, as test runners do
signal.signal(signal.SIGUSR1, lambda *_: print("received"))

def label():
    model = atrous.load(sys.argv[1], backend="openvino")
    model.predict(np.zeros((33, 33, 3), dtype=np.uint8))
    return model

models = [label(), label()]
for _ in range(2):
    del models[0]  # the first that came goes first
    gc.collect()
thread = threading.Thread(target=label)
thread.start()
thread.join()
gc.collect()
os.kill(os.getpid(), signal.SIGUSR1)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no such signal on this system")
def test_a_signal_is_survived_after_openvino_models_have_gone(logits_file: Path) -> None:
    words = [sys.executable, "-W", "ignore", "-c", GONE_AND_SIGNALLED, str(logits_file)]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "received"), done.stderr
