from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from atrous.core.errors import ConfigError, MachineError, ModelFileError, UsageError
from atrous.exporting import FORMATS, parity
from atrous.exporting.export import export_network
from atrous.inference.exported import RUNTIMES, read_file
from atrous.networks.model_file import ModelCard
from atrous.networks.segmenter import Segmenter

pytestmark = pytest.mark.filterwarnings("ignore")  # the exporters' own


@pytest.mark.parametrize("argmax", [False, True])
@pytest.mark.parametrize("format", FORMATS)
def test_a_file_says_all_that_predicting_needs(
    export_tiny: Callable[..., Path], tiny_card: ModelCard, tiny_network: Segmenter, format: str, argmax: bool
) -> None:
    path = export_tiny(format, argmax=argmax)
    for runtime in RUNTIMES[path.suffix]:
        file = read_file(path, runtime=runtime, trust=True)
        assert file.card.label_space == tiny_card.label_space
        assert file.card.score == tiny_card.score
        assert file.card.normalisation["mean"] == pytest.approx([0.4, 0.5, 0.6])
        assert file.graph.output == ("labels" if argmax else "logits")
        assert file.graph.output_stride == tiny_network.output_stride
        assert file.graph.bytes_per_pixel > 0
        assert {"atrous", "torch"} < set(file.graph.versions) | {""}
        assert file.graph.parity["labels"] <= 1e-3
        assert (file.graph.parity["logits"] is None) == argmax
        json.dumps(file.graph.parity, allow_nan=False)


@pytest.mark.parametrize("format", FORMATS)
def test_no_file_is_left_where_the_answers_differ(
    tmp_path: Path, tiny_network: Segmenter, tiny_card: ModelCard, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    monkeypatch.setattr(parity, "LARGEST_LOGIT_DIFFERENCE", -1.0)
    path = tmp_path / f"model{FORMATS.load(format).suffix}"
    with pytest.raises(ModelFileError, match="answers otherwise") as caught:
        export_network(tiny_network, tiny_card, path, format=format)
    assert caught.value.exit_code == 4
    assert list(tmp_path.iterdir()) == []


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


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for format, package in (("onnx", "onnxscript"), ("openvino", "openvino")):
        monkeypatch.setitem(__import__("sys").modules, package, None)
        monkeypatch.delitem(__import__("sys").modules, FORMATS[format].partition(":")[0], raising=False)
        with pytest.raises(MachineError, match=f"format '{format}' needs the package {package}") as caught:
            FORMATS.load(format)
        assert caught.value.hint == f"pip install 'atrous[{format}]'"
