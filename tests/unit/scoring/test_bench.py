from __future__ import annotations

import importlib.util
import json
import mmap
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import atrous
from atrous import api
from atrous.cli.bench import parse_size
from atrous.cli.main import main
from atrous.config.schema import ModelConfig
from atrous.core.errors import UsageError
from atrous.core.inputs import ImageForm, InputSpec
from atrous.core.labels import LabelSpace
from atrous.core.load_compiled import load_compiled
from atrous.inference import engine
from atrous.networks.build import build_network
from atrous.networks.model_card import ModelCard
from atrous.networks.model_file import save_model
from atrous.scoring.bench import bench, draw_image, measure_peak_mib


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    torch.manual_seed(0)
    network = atrous.build("fcn-tiny", classes=3)
    card = ModelCard(model={"name": "fcn-tiny"}, label_space=LabelSpace(("a", "b", "c")))
    path = tmp_path_factory.mktemp("bench") / "small.safetensors"
    save_model(path, network, card)
    return path


class Turns:
    """A labeller that notes when it is asked."""

    def __init__(self, labeller, name, asked):
        self._labeller, self._name, self._asked = labeller, name, asked

    def __getattr__(self, name):
        return getattr(self._labeller, name)

    def label_image(self, image, **options):
        self._asked.append(self._name)
        return self._labeller.label_image(image, **options)


def test_all_take_turns_after_warming_up_and_medians_lie_within_the_spread(model_file):
    asked = []
    labeller = atrous.load(model_file).build_labeller()
    candidates = [(name, "auto", Turns(labeller, name, asked)) for name in ("one", "two")]
    rows = bench(candidates, [(33, 47)], rounds=3)
    assert asked[-6:] == ["one", "two"] * 3
    assert asked.count("one") == asked.count("two") >= 5
    for row in rows:
        assert 0 < row.least_s <= row.median_s <= row.most_s
        assert row.images_per_s == pytest.approx(1 / row.median_s)
        assert (row.height, row.width, row.miou) == (33, 47, None)


def test_memory_counts_what_a_run_held_and_gave_back():
    if (peak := measure_peak_mib(lambda: None, torch.device("cpu"))) is None:
        pytest.skip("this system does not tell the most memory that a process held")
    assert peak < 5
    assert 45 < measure_peak_mib(lambda: np.ones(50 * 2**20, dtype=np.uint8), torch.device("cpu")) < 60


def test_memory_is_measured_again_where_the_kernel_took_back_pages_of_files(tmp_path):
    """Without a second run the pages that are given up hide what the run takes."""
    if measure_peak_mib(lambda: None, torch.device("cpu")) is None:
        pytest.skip("this system does not tell the most memory that a process held")
    path = tmp_path / "mapped"
    path.write_bytes(bytes(80 * 2**20))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert not sum(mapped[:: mmap.PAGESIZE])  # every page is in memory now

        def run():
            mapped.madvise(mmap.MADV_DONTNEED)
            np.ones(50 * 2**20, dtype=np.uint8)

        assert 45 < measure_peak_mib(run, torch.device("cpu")) < 60


def test_an_image_has_the_size_and_more_than_one_colour():
    image = draw_image(50, 70)
    assert image.shape == (50, 70, 3)
    assert np.unique(image.reshape(-1, 3), axis=0).shape[0] > 100


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_an_image_has_the_bands_the_type_and_the_values_of_its_form(dtype):
    form = ImageForm((0, 1, 2, 3, 4), dtype, (20.0, 220.0))
    image = draw_image(50, 70, form)
    assert (image.shape, image.dtype) == ((50, 70, 5), dtype)
    assert 20 <= image.min() < 60
    assert 180 < image.max() <= 220
    photo_bands = draw_image(50, 70, ImageForm((0, 1, 2), dtype, (0.0, 255.0)))
    np.testing.assert_allclose(photo_bands, draw_image(50, 70), atol=0.5)
    assert draw_image(9, 9, ImageForm((0,), "uint16", (-1e6, 1e6))).max() == 65535


@pytest.mark.filterwarnings("ignore")  # the exporter's own
def test_models_of_other_images_and_their_files_are_timed_beside_those_of_photos(model_file, tmp_path):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    torch.manual_seed(0)
    spec = InputSpec((0.25,) * 5, (0.5,) * 5, ImageForm((0, 1, 2, 3, 4), "uint16", (0.0, 4095.0)))
    network = build_network(ModelConfig(name="fcn-tiny"), 3, spec).eval()
    statistics = {"mean": list(spec.mean), "std": list(spec.std)}
    space = LabelSpace(("a", "b", "c"))
    card = ModelCard({"name": "fcn-tiny"}, space, normalisation=statistics, input_form=spec.form)
    path = tmp_path / "bands.safetensors"
    save_model(path, network, card)
    exported, _ = api.export(path, tmp_path / "bands.onnx")
    found = api.bench([model_file, path, exported], [(33, 47)], rounds=1, device="cpu", progress=False)
    names = [Path(row["name"]).name for row in found["rows"]]
    assert names == ["small.safetensors", "bands.safetensors", "bands.onnx"]


def test_the_command_prints_one_object_and_leaves_figures(model_file, tmp_path, capsys):
    words = ["bench", str(model_file), "--sizes", "33,40x20", "--output-strides", "16,8", "--precisions", "fp32"]
    assert main([*words, "--rounds", "2", "--data", "shapes", "--out", str(tmp_path), "--json", "--quiet"]) == 3
    assert "its classes (shapes) are not the model's" in capsys.readouterr().err
    assert main([*words, "--rounds", "2", "--out", str(tmp_path), "--json", "--quiet"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found.pop("notes") == []
    assert found == json.loads((tmp_path / "bench.json").read_text())
    assert [(row["height"], row["width"]) for row in found["rows"]] == [(33, 33), (33, 33), (20, 40), (20, 40)]
    assert [(row["output_stride"], row["precision"]) for row in found["rows"][:2]] == [(16, "fp32"), (8, "fp32")]
    assert found["machine"]["cores"] >= 1
    assert found["last_stage"] == ("numba" if importlib.util.find_spec("numba") else "torch")
    with Image.open(tmp_path / "bench.png") as drawn:
        assert np.asarray(drawn).std() > 1


@pytest.mark.filterwarnings("ignore")  # the exporter's own
def test_a_network_is_converted_once_for_each_backend_and_stride(tiny_network, tiny_card, monkeypatch):
    made = []

    class Counted(engine.ConvertedNetwork):
        def __init__(self, network, *rest):
            made.append(network.output_stride)
            super().__init__(network, *rest)

    monkeypatch.setattr(engine, "ConvertedNetwork", Counted)
    options = {"backends": ["torch", "openvino"], "precisions": ["fp32", "bf16"], "rounds": 1, "device": "auto"}
    found = api.bench([atrous.Model(tiny_network, tiny_card)], [(33, 33)], **options)
    assert len(found["rows"]) == 4
    assert made == [16]


@pytest.mark.filterwarnings("ignore")  # the exporter's own
def test_figures_of_backends_are_kept_for_predictions_and_shown(model_file, monkeypatch, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    words = ["bench", str(model_file), "--sizes", "65", "--precisions", "fp32", "--rounds", "1", "--backends"]
    assert main([*words, "torch", "--json", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["figures"] == []
    assert main([*words, "torch,onnxruntime", "--quiet"]) == 0
    shown = capsys.readouterr().out
    assert "--backend auto: measured here" in shown
    assert "stride 16, fp32, 0.00 megapixels" in shown
    [figure] = json.loads((tmp_path / "atrous" / "backends.json").read_text())["figures"]
    assert (figure["backend"], figure["megapixels"]) == ("onnxruntime", 65 * 65 / 1e6)
    assert min(figure["torch_s"], figure["backend_s"], figure["convert_s"], figure["open_s"]) > 0


@pytest.mark.parametrize("word", ["0", "513x", "axb", "1x2x3", "-5", ""])
def test_a_size_that_is_none_is_refused(word):
    with pytest.raises(UsageError, match="--sizes got"):
        parse_size(word)
    assert parse_size("480x360") == (360, 480)


@pytest.fixture(params=["numba", "torch"])
def stage(request, monkeypatch):
    """What finds the labels where numba is installed and where it is not."""
    if request.param == "numba":
        pytest.importorskip("numba")
    else:
        monkeypatch.setitem(sys.modules, "numba", None)  # what Python says of a package that is not installed
    load_compiled.cache_clear()
    yield request.param
    load_compiled.cache_clear()


def test_the_command_says_what_finds_the_labels(model_file, capsys, stage):
    words = ["bench", str(model_file), "--sizes", "33", "--precisions", "fp32", "--rounds", "1", "--device", "cpu"]
    assert main([*words, "--quiet"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"last stage by {stage}" in said
    assert ("makes the last stage faster" in said) == (stage == "torch")


def test_what_a_backend_cannot_do_is_left_out_and_said(model_file, capsys):
    words = ["bench", str(model_file), "--sizes", "33", "--rounds", "1", "--backends", "torch,pt2", "--device", "cpu"]
    assert main([*words, "--precisions", "fp32"]) == 0
    printed = capsys.readouterr()
    assert "skipped: backend 'pt2' runs exported files" in " ".join((printed.out + printed.err).split())
    assert "torch, stride 16, fp32" in printed.out
    assert main(["bench", str(model_file), "--sizes", "33", "--backends", "pt2", "--quiet"]) == 2
