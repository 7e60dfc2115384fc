from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

import atrous
from atrous.core.errors import ConfigError, MachineError, ModelFileError, UsageError
from atrous.core.install import describe_install
from atrous.core.machine import find_cpu_kind
from atrous.exporting import FORMATS, parity
from atrous.exporting.export import _atomic_files, export_network
from atrous.graphs import atrous_form
from atrous.graphs.atrous_form import Rewriting
from atrous.inference import BACKENDS
from atrous.inference.engine import Engine
from atrous.inference.exported import read_file
from atrous.networks.build import build_network_from
from atrous.networks.layers.conv import DepthwiseConv
from atrous.networks.model_card import ModelCard
from atrous.networks.segmenter import Segmenter
from tiny import randomise

pytestmark = pytest.mark.filterwarnings("ignore")  # the exporters' own


ONE_QUICK = [pytest.param(name, marks=() if name == "onnx" else pytest.mark.slow) for name in FORMATS]
"""A conversion takes seconds, and what is tested is not the format's own."""


@pytest.mark.parametrize("argmax", [False, True])
@pytest.mark.parametrize("format", FORMATS)
def test_a_file_says_all_that_predicting_needs(
    export_tiny: Callable[..., Path], tiny_card: ModelCard, tiny_network: Segmenter, format: str, argmax: bool
) -> None:
    path = export_tiny(format, argmax=argmax)
    for runtime in BACKENDS.find_tagged(path.suffix):
        file = read_file(path, backend=runtime, trust=True)
        assert file.card.label_space == tiny_card.label_space
        assert file.card.score == tiny_card.score
        assert file.card.normalisation["mean"] == pytest.approx([0.4, 0.5, 0.6])
        assert file.graph.output == ("labels" if argmax else "logits")
        assert file.graph.output_stride == tiny_network.output_stride
        assert file.graph.bytes_per_pixel > 0
        assert {"atrous", "torch"} <= set(file.graph.versions)
        assert file.graph.parity["labels"] <= 1e-3
        assert (file.graph.parity["logits"] is None) == argmax
        json.dumps(file.graph.parity, allow_nan=False)


@pytest.mark.usefixtures("_converted_once")
@pytest.mark.parametrize("format", ONE_QUICK)
def test_no_file_is_left_where_the_answers_differ(
    tmp_path: Path, tiny_network: Segmenter, tiny_card: ModelCard, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    monkeypatch.setattr(parity, "LARGEST_LOGIT_DIFFERENCE", -1.0)
    path = tmp_path / f"model{FORMATS.load(format).suffix}"
    with pytest.raises(ModelFileError, match="results differ") as caught:
        export_network(tiny_network, tiny_card, path, format=format)
    assert caught.value.exit_code == 4
    assert list(tmp_path.iterdir()) == []


def write_pair(path: Path, text: str) -> None:
    with _atomic_files(path, (".bin",)) as temporary:
        temporary.write_text(text)
        temporary.with_suffix(".bin").write_text(text)


def test_two_files_get_their_names_together(tmp_path: Path) -> None:
    path = tmp_path / "model.xml"
    for text in ("old", "new"):
        write_pair(path, text)
        assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"model.xml": text, "model.bin": text}


def test_two_files_are_left_as_they_were_if_either_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "first.xml").mkdir()  # the second of two renames fails
    with pytest.raises((OSError, UsageError), match=r"directory|folder"):
        write_pair(tmp_path / "first.xml", "new")
    assert [file.name for file in tmp_path.iterdir()] == ["first.xml"]

    write_pair(tmp_path / "model.xml", "old")
    (tmp_path / "model.bin").rename(tmp_path / "kept")
    (tmp_path / "model.bin").mkdir()  # the first fails, after the old .xml was put aside
    with pytest.raises((OSError, UsageError), match=r"directory|folder"):
        write_pair(tmp_path / "model.xml", "new")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["first.xml", "kept", "model.bin", "model.xml"]
    assert (tmp_path / "model.xml").read_text() == "old"


def read_global_state() -> dict[str, object]:
    return {
        "grad": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
        "matmul": torch.get_float32_matmul_precision(),
        "filters": list(warnings.filters),
        "random": torch.get_rng_state().tolist(),
        "numpy": np.random.get_state()[1].tolist(),  # what other code may use
        "environment": dict(os.environ),
    }


@pytest.mark.parametrize("format", ONE_QUICK)
def test_the_network_and_global_state_are_left_alone(
    tmp_path: Path, tiny_network: Segmenter, tiny_card: ModelCard, format: str
) -> None:
    path = tmp_path / f"model{FORMATS.load(format).suffix}"
    tiny_network.train()
    strides: list[int] = []
    before = read_global_state()
    export_network(
        tiny_network,
        tiny_card,
        path,
        output_stride=8,
        format=format,
        on_message=lambda _: strides.append(tiny_network.output_stride),
    )
    assert read_global_state() == before
    assert set(strides) == {16}
    assert tiny_network.training
    assert read_file(path, trust=True).output_stride == 8


def test_a_network_that_cannot_be_converted_is_said(
    tmp_path: Path, tiny_network: Segmenter, tiny_card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        tiny_network.head, "forward", lambda features, extent: features[-1][:, : int(features[0].sum())]
    )
    with pytest.raises(ModelFileError, match=r"m\.pt2: the network cannot be converted"):
        export_network(tiny_network, tiny_card, tmp_path / "m.pt2", format="pt2")
    assert list(tmp_path.iterdir()) == []


def test_names_that_do_not_fit_are_refused(tmp_path: Path, tiny_network: Segmenter, tiny_card: ModelCard) -> None:
    with pytest.raises(UsageError, match=r"a file of the format pt2 ends in \.pt2"):
        export_network(tiny_network, tiny_card, tmp_path / "model.onnx", format="pt2")
    with pytest.raises(ConfigError, match="unknown format 'tflite'"):
        export_network(tiny_network, tiny_card, tmp_path / "model.tflite", format="tflite")


def test_half_of_a_pair_of_files_is_named(export_tiny: Callable[..., Path], tmp_path: Path) -> None:
    path = shutil.copy(export_tiny("openvino"), tmp_path)
    with pytest.raises(ModelFileError, match=r"logits\.xml: its weights are missing, .*logits\.bin"):
        atrous.load(path)


def test_pytorch_alone_runs_a_program_on_any_size(export_tiny: Callable[..., Path], tiny_network: Segmenter) -> None:
    program = torch.export.load(export_tiny("pt2")).module()
    for shape in ((1, 3, 1, 1), (1, 3, 40, 50), (3, 3, 33, 1), (2, 3, 75, 101)):
        images = torch.randint(0, 256, shape, dtype=torch.uint8)
        with torch.no_grad():
            torch.testing.assert_close(program(images), tiny_network(images), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("_converted_once")
@pytest.mark.parametrize("argmax", [False, True])
def test_a_network_whose_output_is_not_finite_is_not_exported(
    tmp_path: Path, tiny_network: Segmenter, tiny_card: ModelCard, argmax: bool
) -> None:
    with torch.no_grad():
        tiny_network.head.classifier.bias[0] = torch.nan
    with pytest.raises(ModelFileError, match="output is not finite"):
        export_network(tiny_network, tiny_card, tmp_path / "m.onnx", argmax=argmax)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", FORMATS)
def test_an_exported_file_is_not_exported_again(export_tiny: Callable[..., Path], tmp_path: Path, format: str) -> None:
    with pytest.raises(UsageError, match="is an exported file, not a network"):
        atrous.export(export_tiny(format), tmp_path / "model.onnx")


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for format, package in (("onnx", "onnxscript"), ("openvino", "openvino")):
        monkeypatch.setitem(__import__("sys").modules, package, None)
        for module in (FORMATS[format].partition(":")[0], "atrous.graphs.onnx_file"):
            monkeypatch.delitem(__import__("sys").modules, module, raising=False)
        with pytest.raises(MachineError, match=f"format '{format}' needs the package {package}") as caught:
            FORMATS.load(format)
        assert caught.value.hint == describe_install(package, format)


def test_sizes_are_open_and_the_opset_is_recent(export_tiny: Callable[..., Path]) -> None:
    model = onnx.load(export_tiny("onnx"))
    sides = model.graph.input[0].type.tensor_type.shape.dim
    assert [side.dim_param or side.dim_value for side in sides] == ["batch", 3, "height", "width"]
    for argmax, expected in ((False, ["batch", 3, "height", "width"]), (True, ["batch", "height", "width"])):
        output = onnx.load(export_tiny("onnx", argmax=argmax)).graph.output[0]
        assert [side.dim_param or side.dim_value for side in output.type.tensor_type.shape.dim] == expected
    assert {entry.version for entry in model.opset_import if entry.domain == ""} >= {18}


def draw_photos(count: int) -> list[np.ndarray]:
    """Blocks of colours, (65, 79, 3)."""
    generator = np.random.default_rng(0)
    blocks = generator.integers(0, 256, (count, 9, 10, 3), dtype=np.uint8)
    return [photo.repeat(8, axis=0).repeat(8, axis=1)[:65, :79] for photo in blocks]


@pytest.mark.usefixtures("_converted_once")
@pytest.mark.parametrize("format", ["onnx", pytest.param("openvino", marks=pytest.mark.slow)])
def test_int8_answers_nearly_as_the_network_in_every_runtime(
    tmp_path: Path, tiny_network: Segmenter, tiny_card: ModelCard, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    monkeypatch.setattr(parity, "LARGEST_LABEL_SHARE_INT8", 0.2)  # random weights bear less than trained ones
    path = tmp_path / f"model{FORMATS.load(format).suffix}"
    photos = draw_photos(24)
    found = export_network(tiny_network, tiny_card, path, format=format, calibration=photos)
    assert found.logits > 1e-4  # it did compute in 8 bits
    assert found.pixels == 12 * 65 * 79  # those that were not calibrated by
    for runtime in BACKENDS.find_tagged(path.suffix):
        model = atrous.load(path, backend=runtime, precision="int8")
        labeller = model.build_labeller()
        assert labeller.protocol.precision == "int8"
        expected = tiny_network(torch.from_numpy(photos[1]).permute(2, 0, 1)[None]).argmax(dim=1)[0].numpy()
        assert (labeller.label_image(photos[1])[0] == expected).mean() > 0.8
        with pytest.raises(ConfigError, match=r"precision bf16: .* computes in int8"):
            model.reopen(precision="bf16").build_labeller()


@pytest.mark.usefixtures("_converted_once")
def test_int8_needs_images_and_a_format_that_has_it(
    tmp_path: Path, tiny_network: Segmenter, tiny_card: ModelCard
) -> None:
    with pytest.raises(UsageError, match="fewer than two calibration images"):
        export_network(tiny_network, tiny_card, tmp_path / "m.onnx", calibration=draw_photos(1))
    with pytest.raises(ConfigError, match=r"int8: \.pt2 files compute in fp32"):
        export_network(tiny_network, tiny_card, tmp_path / "m.pt2", format="pt2", calibration=draw_photos(2))
    with pytest.raises(UsageError, match="no images to calibrate by"):
        atrous.export(atrous.Model(tiny_network, tiny_card), tmp_path / "m.onnx", int8=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("_converted_once")
def test_int8_that_changes_too_many_labels_is_refused(
    tmp_path: Path, tiny_network: Segmenter, tiny_card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parity, "LARGEST_LABEL_SHARE_INT8", -1.0)
    with pytest.raises(ModelFileError, match="results differ from the network") as caught:
        export_network(tiny_network, tiny_card, tmp_path / "m.onnx", calibration=draw_photos(4))
    assert "Calibrate with more images" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def build_wide(output_stride: int) -> Segmenter:
    """A network whose rates reach beyond the maps of small images, and one of whose branches is depthwise."""
    torch.manual_seed(0)
    settings = {"name": "deeplabv3-tiny", "weights": "none", "output_stride": output_stride, "head": {"rates": [1, 4]}}
    network = build_network_from(settings, 3).eval()
    network.head.aspp.atrous[0].spatial.conv = DepthwiseConv(8, 3, rate=2)
    network.head.aspp.atrous[0].spatial.norm = torch.nn.BatchNorm2d(8)
    network.head.aspp.atrous[0].pointwise = torch.nn.Conv2d(8, 256, 1)
    randomise(network)
    return network.eval()


def list_rates(path: Path) -> list[tuple[int, int]]:
    """Return groups and rate of the atrous convolutions in an .onnx file."""
    found = []
    for node in onnx.load(path).graph.node:
        given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        if node.op_type == "Conv" and max(given.get("dilations", [1])) > 1:
            found.append((given["group"], max(given["dilations"])))
    return found


@pytest.mark.parametrize(("format", "output_stride"), [("onnx", 16), ("onnx", 8), ("openvino", 8)])
def test_atrous_convolutions_as_sums_over_taps(
    tmp_path: Path, tiny_card: ModelCard, format: str, output_stride: int
) -> None:
    network = build_wide(output_stride)
    path = tmp_path / f"model{FORMATS.load(format).suffix}"
    notes: list[str] = []
    export_network(network, tiny_card, path, format=format, atrous="taps", on_message=notes.append)
    is_fine = output_stride == 8  # where the last convolution of the backbone is atrous too
    assert notes[1] == f"{'2 atrous convolutions' if is_fine else '1 atrous convolution'} as sums over taps"
    generator = torch.Generator().manual_seed(0)
    shapes = ((1, 3, 1, 1), (2, 3, 1, 40), (1, 3, 37, 2), (2, 3, 97, 131))
    images = [torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator) for shape in shapes]
    for runtime in BACKENDS.find_tagged(path.suffix):
        file = read_file(path, backend=runtime)
        assert file.graph.atrous == "taps"
        backend = Engine(file, device="cpu", backend=runtime).open_backend(output_stride, "fp32")
        found = parity.measure_parity(network, backend, images)
        assert found.logits is not None
        assert found.logits < 1e-4, (runtime, found)
    if format == "onnx":
        assert [groups for groups, _ in list_rates(path)] == [8]


def test_a_file_for_other_machines_keeps_its_convolutions(
    tmp_path: Path, tiny_card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = {(find_cpu_kind(), "onnxruntime", "fp32"): Rewriting(3)}
    monkeypatch.setattr(atrous_form, "FASTER", here)
    network = build_wide(16)
    rates = {}
    for form in ("native", "auto"):
        path = tmp_path / f"{form}.onnx"
        export_network(network, tiny_card, path, **({} if form == "native" else {"atrous": form}))
        rates[read_file(path).graph.atrous] = list_rates(path)
    assert rates == {"native": [(8, 2), (1, 4)], "taps": [(8, 2)]}


def test_forms_that_there_are_not_are_refused(tmp_path: Path, tiny_network: Segmenter, tiny_card: ModelCard) -> None:
    with pytest.raises(ConfigError, match="unknown form 'tabs'"):
        export_network(tiny_network, tiny_card, tmp_path / "model.onnx", atrous="tabs")
    with pytest.raises(ConfigError, match="native alone"):
        export_network(tiny_network, tiny_card, tmp_path / "model.pt2", format="pt2", atrous="taps")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_eight_bits_by_tap(tmp_path: Path, tiny_card: ModelCard) -> None:
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 256, (65, 65, 3), dtype=np.uint8) for _ in range(8)]
    path = tmp_path / "model.onnx"
    export_network(build_wide(16), tiny_card, path, calibration=images, atrous="taps")
    assert (read_file(path).graph.atrous, read_file(path).graph.precision) == ("taps", "int8")
