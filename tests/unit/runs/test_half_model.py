from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import atrous
from atrous.core.calibration import Chosen
from atrous.core.errors import ModelFileError, UsageError
from atrous.core.records import Note
from atrous.core.run_folder import MODEL_NAME, RunFolder
from atrous.exporting import parity
from atrous.inference import precision
from atrous.networks.model_card import ModelCard, read_card
from atrous.networks.model_file import load_model, save_model
from atrous.networks.segmenter import Segmenter
from atrous.networks.weights import start_weights
from atrous.runs import half_model
from atrous.runs.half_model import round_weights

WEIGHT = "head.classifier.weight"


@pytest.fixture
def run(trained_run: Path, tmp_path: Path) -> Path:
    """A run whose model file has scores that no measurement gives."""
    folder = Path(shutil.copytree(trained_run, tmp_path / "run"))
    network, card = load_model(folder / MODEL_NAME)
    with torch.no_grad():
        network.backbone.blocks[0][0].weight[0, 0, 0, 0] = 1e-9  # rounded to 0
        network.backbone.blocks[0][0].weight[0, 0, 0, 1] = 1e-7  # below the normal numbers of float16
    wrong = {"score": 0.1234, "score_bf16": 0.1234, "num_scored": 99, "scored_data": "other val"}
    chosen = Chosen(1.5, "its own val")
    save_model(
        folder / MODEL_NAME, network, replace(card, **wrong, class_iou=(0.1,) * len(card.class_iou), chosen=chosen)
    )
    return folder


def round_by_hand(network: Segmenter) -> dict[str, torch.Tensor]:
    """The values that a file of half precision has, as fp32."""
    return {
        name: torch.from_numpy(value.numpy().astype("float16").astype("float32")) if value.dim() > 1 else value
        for name, value in network.state_dict().items()
    }


def test_the_file_computes_in_fp32_with_weights_that_are_rounded(run: Path, tmp_path: Path) -> None:
    path, found = atrous.export(run, tmp_path / "small.safetensors", format="safetensors")
    network, _ = load_model(run / MODEL_NAME)
    expected = round_by_hand(network)
    assert any(not torch.equal(expected[name], value) for name, value in network.state_dict().items())
    stored = load_file(path)
    for name, value in network.state_dict().items():
        kind = torch.int64 if value.dtype == torch.int64 else torch.float16 if value.dim() > 1 else torch.float32
        assert stored[name].dtype == kind
    loaded, _ = load_model(path)
    for name, value in loaded.state_dict().items():
        assert value.dtype == expected[name].dtype
        assert torch.equal(value, expected[name]), name
    network.load_state_dict(expected)
    image = torch.randint(0, 256, (1, 3, 65, 65), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(loaded.eval()(image), network.eval()(image))
    assert 0 < found.logits < 1e-2


@pytest.mark.parametrize("has_bf16", [False, True])
def test_the_score_is_that_of_the_file(
    has_bf16: bool, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In both precisions, where the CPU computes in bf16."""
    for each in (half_model, precision):
        monkeypatch.setattr(each, "computes_bf16", lambda device_type: has_bf16)
    progress: list[object] = []
    path, _ = atrous.export(run, tmp_path / "small.safetensors", format="safetensors", progress=progress.append)
    assert progress
    old, card = read_card(run / MODEL_NAME), read_card(path)
    shutil.copy(path, run / MODEL_NAME)
    scores, narrow = (atrous.evaluate(run, progress=False, precision=each) for each in ("fp32", "bf16"))
    assert card.score == scores.miou != old.score
    assert card.class_iou == tuple(row.iou for row in scores.classes) != old.class_iou
    assert (card.scored_data, card.num_scored) == (scores.data, len(scores.images)) != (old.scored_data, old.num_scored)
    assert card.protocol == scores.protocol.to_json()
    assert card.score_bf16 == (narrow.miou if has_bf16 else None)
    kept = ("model", "label_space", "normalisation", "data", "num_images", "recipe_sha256", "data_terms", "chosen")
    assert all(getattr(card, name) == getattr(old, name) for name in kept)


def require_no_scores(card: ModelCard) -> None:
    assert (card.score, card.score_bf16, card.protocol, card.num_scored) == (None, None, None, None)
    assert (card.scored_data, card.class_iou) == ("", ())


def test_without_the_data_of_the_run_there_is_no_score(run: Path, shapes_folder: Path, tmp_path: Path) -> None:
    config = RunFolder(run).config
    config.write_text(config.read_text().replace(str(shapes_folder), str(tmp_path / "gone")))
    alone = Path(shutil.copy(run / MODEL_NAME, tmp_path / "alone.safetensors"))
    for model, reason in ((run, "gone"), (alone, "no data to score on"), (atrous.load(alone), "no data to score on")):
        notes: list[str] = []
        path = tmp_path / "small.safetensors"
        atrous.export(model, path, format="safetensors", on_message=notes.append)
        require_no_scores(read_card(path))
        assert read_card(path).chosen.temperature == 1.5
        [note] = [note for note in notes if isinstance(note, Note) and note.code == "not-scored"]
        assert reason in note
        assert f"atrous eval {path} DATA" in note


def test_a_training_can_start_from_the_file(run: Path, tmp_path: Path) -> None:
    path, _ = atrous.export(run, tmp_path / "small.safetensors", format="safetensors")
    network, _ = load_model(run / MODEL_NAME)
    expected = round_by_hand(network)
    start_weights(network, "deeplabv3-tiny", str(path))
    assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("value", [65505.0, -7e4, 1e30])
def test_a_weight_beyond_float16_is_refused_by_its_name(run: Path, tmp_path: Path, value: float) -> None:
    model = atrous.load(run, device="cpu")
    with torch.no_grad():
        model.network.head.classifier.weight[0, 0] = value
        model.network.head.classifier.bias[0] = 1e30  # statistics and biases stay in fp32
    with pytest.raises(ModelFileError, match=rf"{WEIGHT}: the weight .* is beyond the range of float16, -65,504"):
        atrous.export(model, tmp_path / "small.safetensors", format="safetensors")
    assert not list(tmp_path.glob("*.safetensors"))


def test_the_largest_number_of_float16_stays(tiny_network: Segmenter) -> None:
    with torch.no_grad():
        tiny_network.head.classifier.weight[0, 0] = -65504.0
        tiny_network.head.classifier.weight[0, 1] = 1e-9
    rounded = round_weights(tiny_network)[WEIGHT]
    assert rounded[0, :2].flatten().tolist() == [-65504.0, 0.0]


def test_weights_that_are_not_finite_are_refused(tiny_network: Segmenter) -> None:
    with torch.no_grad():
        tiny_network.head.classifier.weight[0, 0] = math.nan
    with pytest.raises(ModelFileError, match=rf"not finite .* first {WEIGHT}"):
        round_weights(tiny_network)


def test_the_default_network_is_a_file_of_at_most_15_mb() -> None:
    state = round_weights(atrous.build("deeplabv3-lite0", classes=21, weights="none"))
    assert sum(tensor.nbytes for tensor in state.values()) < 14.9e6  # names and the card are some 100 kB


def test_a_file_whose_results_differ_is_not_written(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity, "LARGEST_DIFFERENCE_FP16", -1.0)
    with pytest.raises(ModelFileError, match="results differ"):
        atrous.export(run, tmp_path / "small.safetensors", format="safetensors")
    assert not list(tmp_path.glob("*.safetensors"))


def test_only_a_file_of_its_kind_is_replaced(run: Path, tmp_path: Path) -> None:
    for _ in range(2):  # a file that was exported before may be replaced
        path, _ = atrous.export(run, format="safetensors")
    assert path == run / "model-half.safetensors"
    whole = (run / MODEL_NAME).read_bytes()
    with pytest.raises(UsageError, match="would be lost"):
        atrous.export(run, run / MODEL_NAME, format="safetensors")
    assert (run / MODEL_NAME).read_bytes() == whole
    with pytest.raises(UsageError, match=r"ends in \.safetensors"):
        atrous.export(run, tmp_path / "small.onnx", format="safetensors")


@pytest.mark.parametrize(
    "options", [{"argmax": True}, {"int8": True}, {"output_stride": 8}, {"atrous": "taps"}], ids=str
)
def test_options_of_graphs_are_refused(trained_run: Path, options: dict[str, object]) -> None:
    [name] = options
    with pytest.raises(UsageError, match=f"{name}: of exported graphs, and safetensors is a model file"):
        atrous.export(trained_run, format="safetensors", **options)
