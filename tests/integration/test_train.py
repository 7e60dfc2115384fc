"""The chain on a small folder: train, interrupt, kill, resume, score, predict; as one would call it."""

from __future__ import annotations

import contextlib
import csv
import errno
import html
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from sklearn.metrics import jaccard_score

import atrous
import tiny
from atrous import api
from atrous.cli.main import main
from atrous.config.load import load_config
from atrous.core.data_source import DATASETS
from atrous.core.errors import DataError, UsageError
from atrous.core.labels import LabelSpace
from atrous.core.records import Sample
from atrous.data.build import build_splits, build_stream, check_training_data, list_pass
from atrous.data.datasets.shapes import build_shapes
from atrous.data.preview import save_preview
from atrous.networks import BACKBONES, FAMILIES
from atrous.training import compilation, feasibility, prepare, trackers
from atrous.training.checkpoint import load_checkpoint
from atrous.training.norm import set_norm_momentum
from tiny import RUN_OPTIONS, RUN_SIDE, randomise

PROGRAM = Path(tiny.__file__)
"""The command line in a process of its own, with the tiny backbone."""
STEPS = 8
SETTINGS = [word for word in RUN_OPTIONS if word != "--quiet"]


def call(*words):
    """Run a command line; returns its exit code, standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    return code, out.getvalue(), err.getvalue()


def load_strictly(text):
    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def read_rows(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def list_files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def assert_same_tensors(one, other):
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def assert_same_runs(one, other):
    """Weights, state of the optimiser and all figures are bit-equal; only times and names may differ."""
    assert_same_tensors(load_file(one / "model.safetensors"), load_file(other / "model.safetensors"))
    states = [load_checkpoint(folder / "last.ckpt") for folder in (one, other)]
    assert states[0].step == states[1].step
    assert_same_tensors(states[0].network, states[1].network)
    assert_same_tensors(states[0].averaged, states[1].averaged)
    moments = [
        {f"{key} {name}": tensor for key, own in state.optimizer["state"].items() for name, tensor in own.items()}
        for state in states
    ]
    assert moments[0]
    assert_same_tensors(*moments)
    rows = [[row | {"seconds": ""} for row in read_rows(folder)] for folder in (one, other)]
    assert rows[0] == rows[1]


@pytest.fixture
def data(shapes_folder):
    return shapes_folder


@pytest.fixture
def run(trained_run):
    return trained_run


def test_a_run_is_complete_and_its_figures_are_strict_json(data, run, tmp_path):
    folder = tmp_path / "run"
    code, out, err = call("train", data, *SETTINGS, "--out", folder, "--json")
    assert code == 0, err
    names = {path.name for path in folder.iterdir()}
    assert names == {
        *("config.yaml", "images.json", "metrics.json", "metrics.csv", "model.safetensors"),
        *("last.ckpt", "report.html", "log.txt"),
        "examples",
    }
    metrics, printed = load_strictly((folder / "metrics.json").read_text()), load_strictly(out)
    assert printed["miou"] == metrics["miou"]
    assert printed["classes"] == metrics["classes"]
    assert printed["folder"] == str(folder)
    assert metrics["training"]["steps"] == STEPS
    assert metrics["training"]["interrupted"] is False
    assert len(metrics["data_fingerprint"]) == 64
    assert [row["step"] for row in read_rows(folder)] == ["2", "4", "6", "8"]
    assert all((folder / row["prediction"]).is_file() for row in metrics["examples"])
    assert_same_runs(run, folder)


def test_the_best_rows_score_is_what_eval_finds_and_what_the_model_carries(run):
    best = max(float(row["miou"]) for row in read_rows(run))
    code, out, _ = call("eval", run, "--json")
    assert code == 0
    assert load_strictly(out)["miou"] == best
    assert load_strictly((run / "metrics.json").read_text())["miou"] == best
    assert atrous.load(run).card.score == best


def test_predicted_files_scored_by_other_code_give_the_same_figure(run, data, tmp_path):
    words = ["predict", data / "images" / "val", "--model", run, "--out", tmp_path / "labels", "--precision", "fp32"]
    code, out, _ = call(*words)
    assert code == 0
    assert "3 labelled, 0 skipped" in out
    truth, given = [], []
    for mask in sorted((data / "masks" / "val").glob("*.png")):
        truth.append(np.asarray(Image.open(mask)).ravel())
        given.append(np.asarray(Image.open(tmp_path / "labels" / mask.name)).ravel())
    truth, given = np.concatenate(truth), np.concatenate(given)
    assert len(np.unique(given)) > 1
    theirs = jaccard_score(truth, given, labels=np.union1d(truth, given), average="macro")
    assert load_strictly(call("eval", run, "--json")[1])["miou"] == pytest.approx(theirs, abs=1e-12)


def test_a_file_that_is_no_image_is_skipped_named_and_counted(run, data, tmp_path):
    shutil.copytree(data / "images" / "val", tmp_path / "in")
    (tmp_path / "in" / "broken.png").write_bytes(b"not an image")
    code, out, err = call("predict", tmp_path / "in", "--model", run, "--out", tmp_path / "out")
    assert (code, "3 labelled, 1 skipped" in out) == (1, True)
    assert "broken.png" in err
    code, out, _ = call("predict", tmp_path / "in", "--model", run, "--out", tmp_path / "again", "--json")
    printed = load_strictly(out)
    assert (code, len(printed["done"])) == (1, 3)
    assert printed["skipped"][0]["input"].endswith("broken.png")


def test_other_protocols_run_and_are_named_beside_the_score(run):
    options = ("--output-stride", 8, "--scales", "0.75,1", "--flip", "--json")
    printed = load_strictly(call("eval", run, *options)[1])
    assert printed["protocol"] | {"output_stride": 8, "scales": [0.75, 1.0], "flip": True} == printed["protocol"]
    assert 0 <= printed["miou"] <= 1
    windowed = load_strictly(call("eval", run, "--window", 33, "--json")[1])
    assert windowed["protocol"]["window"] == 33


def test_every_pair_of_some_data_is_scored_and_seen_images_are_warned_of(run, data):
    code, out, err = call("eval", run, data, "--json")
    assert code == 0
    assert len(load_strictly(out)["images"]) == 11
    assert "trained on 8 of 11 images" in err


def test_a_run_whose_data_are_gone_still_scores_others(run, data, tmp_path):
    copied = tmp_path / "run"
    shutil.copytree(run, copied)
    text = (copied / "config.yaml").read_text()
    (copied / "config.yaml").write_text(text.replace(str(data), str(tmp_path / "gone")))
    code, _, err = call("eval", copied, data)
    assert code == 0
    assert "not known whether it was trained on these" in " ".join(err.split())
    assert call("eval", copied)[0] == 3


def test_a_run_that_has_moved_finds_its_data_below_a_data_root_or_asks_for_them(run, data, tmp_path):
    folder, place = tmp_path / "moved run", tmp_path / "elsewhere"
    shutil.copytree(run, folder)
    shutil.copytree(data, place / data.name)
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace(str(data), str(tmp_path / "gone" / data.name)))
    code, _, err = call("train", "--resume", folder)
    assert (code, "--data-root FOLDER, the folder that holds them" in " ".join(err.split())) == (3, True)
    code, _, err = call("train", "--resume", folder, "--data-root", tmp_path)
    assert (code, f"which has no folder {data.name}" in " ".join(err.split())) == (3, True)
    code, _, err = call("eval", folder)
    assert (code, "--data-root FOLDER, the folder that holds them" in " ".join(err.split())) == (3, True)
    code, out, err = call("eval", folder, "--data-root", place, "--json")
    assert code == 0, err
    assert load_strictly(out)["miou"] == load_strictly((run / "metrics.json").read_text())["miou"]
    code, _, err = call("train", "--extend", folder, "--iterations", 10, "--data-root", place)
    assert code == 0, err
    assert load_config(recipe=folder / "config.yaml").config.data.source == str(place / data.name)
    assert load_checkpoint(folder / "last.ckpt").step == 10


def test_the_same_run_again_is_bit_equal_whatever_the_number_of_workers(run, data, tmp_path):
    again = tmp_path / "again"
    code, _, err = call("train", data, *SETTINGS, "--out", again, "--workers", 1, "--quiet")
    assert code == 0, err
    assert_same_runs(run, again)


def test_the_reports_command_trains_the_same_run_again_from_any_folder(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = html.unescape((run / "report.html").read_text(encoding="utf-8"))
    command = re.search(r"<pre[^>]*>(atrous train --recipe [^<]*)</pre>", page)[1]
    code, out, err = call(*shlex.split(command)[1:])
    assert code == 0, err
    again = Path(out.splitlines()[-1].removeprefix("run: "))
    assert f"run folder: {again}" in err
    assert_same_runs(run, tmp_path / again)


def test_an_edited_configuration_is_not_resumed(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(
        text.replace("accumulate: 2", "accumulate: 1").replace("power: 0.9", "power: 1.0")
    )
    code, _, err = call("train", "--resume", folder)
    assert code == 2
    assert "training.accumulate and training.power differ from the original run" in " ".join(err.split())


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [("config.yaml", "training: [", 2), ("config.yaml", "version: 1", 2), ("last.ckpt", "damaged", 4)],
)
def test_a_damaged_run_is_one_clear_error(run, tmp_path, name, content, code):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    (folder / name).write_text(content)
    got, _, err = call("train", "--resume", folder)
    assert got == code
    assert str(folder / name) in "".join(err.splitlines())
    assert len(err.splitlines()) == 2


def read_global_state():
    cudnn = torch.backends.cudnn
    return {
        "random": torch.random.get_rng_state().tolist(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "threads": torch.get_num_threads(),
        "cudnn": (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32),
        "warnings": list(warnings.filters),
        "environment": dict(os.environ),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
    }


def test_a_training_in_python_leaves_global_switches_alone_also_when_it_diverges(tmp_path):
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        before = read_global_state()
        train_shapes(tmp_path / "run")
        assert read_global_state() == before
        with pytest.raises(atrous.TrainingDiverged):
            train_shapes(tmp_path / "diverged", iterations=8, lr=1e9, precision="fp32")
        assert read_global_state() == before
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DataError("a.jpg: cannot be decoded", "Replace it."), "a.jpg: cannot be decoded\nReplace it."),
        (MemoryError(), "out of memory"),
        (OSError(errno.ENOSPC, "No space left on device", "x.json"), "x.json: no space left on the disk ("),
        (KeyError("a surprise"), "Traceback"),
        (KeyboardInterrupt(), "interrupted"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_stops_a_training_is_logged_and_says_how_to_continue(tmp_path, error, reason):
    def stop(progress):
        if (progress.stage, progress.done) == ("training", 2):
            raise error

    folder = tmp_path / "a run"
    with pytest.raises(type(error)) as caught:
        train_shapes(folder, iterations=3, progress=stop)
    assert caught.value.__notes__ == [f"Continue with: atrous train --resume '{folder}'"]
    assert f"\nstopped: {reason}" in (folder / "log.txt").read_text()
    code, _, err = call("train", "--resume", folder)
    assert code == 0, err


def test_a_damaged_image_is_found_before_the_first_step_also_by_a_dry_run(data, tmp_path):
    copied = tmp_path / "data"
    shutil.copytree(data, copied)
    image = sorted((copied / "images").rglob("*.png"))[3]
    image.write_bytes(image.read_bytes()[:-500])
    for words in ((), ("--dry-run",)):
        code, _, err = call("train", copied, *SETTINGS, "--out", tmp_path / "run", *words)
        assert (code, f"{image}: cannot be decoded" in err) == (3, True)
    assert not (tmp_path / "run").exists()


def test_a_diverged_training_has_its_own_exit_code_and_closes_its_trackers(tmp_path, data, monkeypatch):
    closed = []
    monkeypatch.setattr(trackers.Trackers, "close", lambda self, status: closed.append(status))
    words = ["train", data, *SETTINGS, "--out", tmp_path / "run", "--lr", 1e9, "--precision", "fp32"]
    code, _, err = call(*words, "--set", "training.clip_norm=0")
    assert (code, closed) == (6, ["failed"])
    assert "lower --lr" in err.lower()


def test_a_missing_folder_and_an_impossible_model_are_refused_before_any_mask_is_read(data, tmp_path):
    copied = tmp_path / "data"
    shutil.copytree(data, copied)
    for mask in (copied / "masks").rglob("*.png"):
        mask.write_bytes(b"no mask")
    code, _, err = call("train", tmp_path / "nowhere", "--iterations", 1)
    assert (code, f"no folder {tmp_path / 'nowhere'}" in err) == (3, True)
    for words, code in (
        (("--model", "deeplabv3-tinny"), 2),
        (("--crop", 33, "--set", "model.head={rates: [9]}"), 2),
        (("--weights", "no.pth"), 4),
        (("--device", "cuda:99"), 5),
    ):
        assert call("train", copied, *SETTINGS, "--out", tmp_path / "run", *words)[0] == code
    assert not (tmp_path / "run").exists()


def interrupt_at(step):
    """A progress function that sends this process a signal after a step, as `kill` would."""
    return lambda at: os.kill(os.getpid(), signal.SIGTERM) if (at.stage, at.done) == ("training", step) else None


@pytest.mark.parametrize("step", [1, 5])
def test_an_interrupted_and_resumed_run_is_bit_equal_to_a_whole_one(run, tmp_path, step):
    folder = tmp_path / "parts"
    loaded = load_config(recipe=run / "config.yaml", options={"output.folder": str(folder)})
    stopped = api.run_training(loaded, progress=interrupt_at(step))
    assert stopped.interrupted
    assert load_checkpoint(folder / "last.ckpt").step == step
    metrics = load_strictly((folder / "metrics.json").read_text())
    assert metrics["training"]["interrupted"] is True
    assert (metrics["miou"] is None) == (step == 1)  # before the first validation there is no score, and a report
    assert stopped.report.is_file()
    assert atrous.load(folder).predict(np.zeros((9, 7, 3), np.uint8)).labels.shape == (9, 7)
    code, _, err = call("train", "--resume", folder, "--workers", 1)
    assert code == 0, err
    assert f"resumed after step {step}" in err
    assert_same_runs(run, folder)
    assert load_strictly((folder / "metrics.json").read_text())["miou"] == atrous.evaluate(folder).miou


@pytest.mark.slow
def test_a_compiled_run_is_the_plain_one_and_goes_on_where_it_stopped(run, tmp_path, monkeypatch):
    """Through a compiler that compiles nothing: dropout then draws the same numbers."""
    compiled = []

    def compile_cells(network):
        compiled.append(network)
        return compilation.compile_cells(network, backend="eager")

    monkeypatch.setattr(prepare, "compile_cells", compile_cells)
    monkeypatch.setattr(feasibility, "require_compiler", lambda device: None)
    folder = tmp_path / "compiled"
    options = {"output.folder": str(folder), "training.compile": True}
    assert api.run_training(
        load_config(recipe=run / "config.yaml", options=options), progress=interrupt_at(3)
    ).interrupted
    code, _, err = call("train", "--resume", folder)
    assert code == 0, err
    assert len(compiled) == 2
    assert_same_runs(run, folder)


def test_a_finished_run_that_is_resumed_stays_as_it_is(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    assert call("train", "--resume", folder, "--quiet")[0] == 0
    assert_same_runs(run, folder)


@pytest.mark.parametrize(
    ("option", "key"),
    [
        (("--batch", 1), "training.batch"),
        (("--iterations", 9), "training.iterations"),
        (("--seed", 1), "training.seed"),
    ],
)
def test_a_resumed_run_keeps_its_settings(run, option, key):
    code, _, err = call("train", "--resume", run, *option)
    assert code == 2
    assert key in err


def test_a_run_is_not_resumed_with_other_data(run, data, tmp_path):
    copied = tmp_path / "data"
    shutil.copytree(data, copied)
    mask = next((copied / "masks" / "train").glob("*.png"))
    pixels = np.array(Image.open(mask))
    pixels[:3] = np.where(pixels[:3] == 1, 0, 1)
    Image.fromarray(pixels).save(mask)
    code, _, err = call("train", copied, "--resume", run)
    assert code == 3
    assert "its data have changed" in err


def start(data, folder, *more, stderr=subprocess.PIPE):
    """Start a training in a process group of its own and wait until its first validation is written down."""
    words = ["train", data, *SETTINGS, "--iterations", 30, "--out", folder, "--set", "training.validations=15", *more]
    process = subprocess.Popen(
        [sys.executable, PROGRAM, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        start_new_session=True,
    )
    while not (folder / "metrics.csv").is_file() and process.poll() is None:
        time.sleep(0.02)
    assert process.poll() is None, process.communicate()
    return process


def test_sigterm_to_a_whole_process_group_leaves_a_usable_run_that_goes_on(data, tmp_path):
    folder = tmp_path / "stopped run"
    process = start(data, folder, "--workers", 1)
    os.killpg(process.pid, signal.SIGTERM)  # also to the process that reads images
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert f"atrous train --resume '{folder}'" in err
    assert str(folder) in out
    step = load_checkpoint(folder / "last.ckpt").step
    assert 2 <= step < 30
    assert (folder / "report.html").is_file()
    metrics = load_strictly((folder / "metrics.json").read_text())
    assert atrous.evaluate(folder).miou == metrics["miou"]
    code, _, err = call("train", "--resume", folder)
    assert code == 0, err
    assert f"resumed after step {step}" in err
    assert [row["step"] for row in read_rows(folder)] == [str(n) for n in range(2, 31, 2)]
    assert load_strictly((folder / "metrics.json").read_text())["training"]["steps"] == 30


@pytest.mark.skipif(os.name == "nt", reason="a terminal of Unix")
def test_a_closed_terminal_leaves_a_run_that_goes_on(data, tmp_path):
    """It takes the signal, and everything that is printed afterwards fails."""
    folder = tmp_path / "run"
    terminal, stderr = os.openpty()
    process = start(data, folder, stderr=stderr)
    os.close(stderr)
    os.close(terminal)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=120)
    assert process.returncode == 130
    assert "stopping after this step" in (folder / "log.txt").read_text()
    assert load_strictly((folder / "metrics.json").read_text())["training"]["interrupted"]
    assert (folder / "report.html").is_file()
    assert load_checkpoint(folder / "last.ckpt").step < 30


def test_a_killed_run_goes_on_is_scored_predicts_and_is_exported(data, tmp_path):
    folder = tmp_path / "killed"
    process = start(data, folder)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=200)
    step = load_checkpoint(folder / "last.ckpt").step
    assert 0 <= step < 30
    assert atrous.load(folder).classes
    code, out, err = call("train", "--resume", folder, "--json")
    assert code == 0, err
    trained = load_strictly(out)
    assert load_checkpoint(folder / "last.ckpt").step == 30
    assert f"{trained['miou']:.3f}" in (folder / "report.html").read_text(encoding="utf-8")
    assert load_strictly(call("eval", folder, "--json")[1])["miou"] == trained["miou"]
    images, exported = data / "images" / "val", tmp_path / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        code, _, err = call("export", folder, "--out", exported)
    assert code == 0, err
    labels = []
    for model in (folder, exported):
        out = tmp_path / f"labels of {model.name}"
        code, _, err = call("predict", images, "--model", model, "--out", out, "--precision", "fp32")
        assert code == 0, err
        labels.append(np.stack([np.asarray(Image.open(out / f"{path.stem}.png")) for path in sorted(images.iterdir())]))
    assert len(np.unique(labels[0])) > 1
    assert (labels[0] != labels[1]).mean() < 1e-3


@pytest.mark.parametrize(
    "content",
    ["", "{", "{}", "[1, 2]", "# nothing", "version: 2", "\x00\x00", "miou: 0.5", '{"miou": "high"}'],
    ids=repr,
)
@pytest.mark.parametrize("name", ["metrics.json", "config.yaml"])
def test_a_damaged_file_of_a_run_is_named_or_not_needed(run, tmp_path, name, content):
    """No command ends in a traceback, and none fails without naming the file."""
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    (folder / name).write_text(content)
    again = ("train", "--recipe", folder / "config.yaml", "--out", tmp_path / "again", "--dry-run")
    for words in (("eval", folder), ("train", "--resume", folder), again):
        code, _, err = call(*words, "--quiet")
        assert code in (0, 2, 3, 4), err
        assert code == 0 or name in " ".join(err.split()), err


def train_shapes(out, **options):
    given = {
        **{"model": "fcn-tiny", "weights": "none", "iterations": 2, "crop": 65, "batch": 2, "validations": 1},
        **options,
    }
    settings = {"data.options": {"num_train": 16, "num_val": 2, "size": RUN_SIDE}} | given.pop("set", {})
    return atrous.train("shapes", out=out, set=settings, **given)


def test_one_image_a_batch_trains(tmp_path):
    head = {"model.head": {"rates": [1, 2], "channels": 8}}
    run = train_shapes(tmp_path / "run", model="deeplabv3-tiny", batch=1, set=head)
    assert run.scores is not None
    assert all(tensor.isfinite().all() for tensor in load_file(run.folder / "model.safetensors").values())


def test_image_features_are_averaged_over_windows_of_the_crop_and_both_scores_are_reported(tmp_path):
    head, shapes = {"rates": [1, 2], "channels": 8}, {"num_train": 16, "num_val": 2, "size": 2 * RUN_SIDE}
    torch.manual_seed(1)
    network = atrous.build("deeplabv3-tiny", classes=6, head=head).eval()
    randomise(network)
    torch.nn.init.normal_(network.head.classifier.weight)
    with torch.no_grad():  # so that each class is somewhere the likeliest
        image = torch.from_numpy(build_shapes(**shapes).val.get(0).image).permute(2, 0, 1)
        network.head.classifier.bias -= network(image[None]).mean(dim=(0, 2, 3))
    torch.save(network.state_dict(), tmp_path / "start.pth")
    settings = {"model.head": head, "model.image_pooling": "crop_window", "data.options": shapes}
    settings |= {"training.norm": "frozen", "training.ema_decay": 0.0}
    start = {"model": "deeplabv3-tiny", "weights": str(tmp_path / "start.pth"), "iterations": 1, "lr": 1e-9}
    run = train_shapes(tmp_path / "run", **start, precision="fp32", set=settings)
    model, windows = run.model, run.scores.miou
    assert model.network.pooling_window == 65
    model.network.pooling_window = None
    whole = atrous.evaluate(model).miou
    assert f"{whole:.4f}" != f"{windows:.4f}"
    both = f"mIoU {windows:.4f} averaged over windows of 65 pixels, {whole:.4f} over the whole image"
    page = run.report.read_text(encoding="utf-8")
    assert f"<li>image-level features: {both} <code>image-level-windows</code></li>" in page


def test_windows_and_precision_of_the_validations_are_those_of_a_later_evaluation(tmp_path, monkeypatch):
    run = train_shapes(tmp_path / "run", set={"evaluation.window": 33, "evaluation.precision": "bf16"})
    again = atrous.evaluate(run)
    assert (again.protocol.window, again.protocol.precision) == (33, "bf16")
    # A CPU without bf16 is said when a model is opened, not at each validation.
    assert again.to_json() | {"notes": []} == run.scores.to_json() | {"notes": []}
    assert atrous.evaluate(run, window=65, precision="fp32").protocol.window == 65
    monkeypatch.setattr("atrous.scoring.crf_search.search_crf", lambda labeller, dataset, progress: labeller.protocol)
    assert api.search_crf(run) == again.protocol


def test_weights_of_a_model_with_other_classes_start_a_training_with_a_new_last_layer(run, tmp_path):
    said = []
    options = {"model.head": {"rates": [1, 2], "channels": 16}, "training.lr": 1e-9, "training.ema_decay": 0.0}
    space = LabelSpace(("left", "right"))
    pairs = build_halves(4)
    datasets = [ListDataset("halves train", space, pairs[:2]), ListDataset("halves val", space, pairs[2:])]
    started = atrous.train(
        tuple(datasets),
        **{"model": "deeplabv3-tiny", "weights": str(run / "model.safetensors"), "iterations": 1, "crop": 65},
        **{"batch": 2, "out": tmp_path / "run", "set": options, "on_message": said.append},
    )
    lines = [line for line in said if line.startswith("weights:")]
    assert len(lines) == 3
    assert "tensors loaded" in lines[0]
    assert lines[1] == "weights: 2 new: head.classifier"
    assert lines[2] == "weights: 2 not used: head.classifier"
    before, after = load_file(run / "model.safetensors"), load_file(started.folder / "model.safetensors")
    assert after["head.classifier.weight"].shape[0] == 2
    kept = [name for name in after if after[name].dim() == 4 and name != "head.classifier.weight"]
    assert len(kept) == 10
    for name in kept:
        torch.testing.assert_close(after[name], before[name])


class ListDataset:
    """Images and labels in memory, as a person's own Python data set might hold them."""

    def __init__(self, name, label_space, pairs):
        self.name, self.label_space, self.pairs = name, label_space, pairs

    def __len__(self):
        return len(self.pairs)

    def get(self, index):
        image, labels = self.pairs[index]
        return Sample(self.key(index), image, labels)

    def key(self, index):
        return f"{index}"

    def mask(self, index):
        return self.pairs[index][1]

    def image_path(self, index):
        return None

    def mask_path(self, index):
        return None


def build_halves(count):
    generator = np.random.default_rng(0)
    labels = np.zeros((RUN_SIDE, RUN_SIDE), np.uint16)
    labels[:, RUN_SIDE // 2 :] = 1
    return [(generator.integers(0, 256, (RUN_SIDE, RUN_SIDE, 3), dtype=np.uint8), labels) for _ in range(count)]


def test_the_best_model_is_kept_when_later_validations_are_worse(tmp_path):
    torch.manual_seed(0)
    network = atrous.build("fcn-tiny", classes=2)
    images = [image for image, _ in build_halves(2)]
    batch = torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image in images])
    set_norm_momentum(network, 1.0)
    with torch.no_grad():
        network.train()(batch)  # so that features have a spread, and answers differ from place to place
        network.eval().head.classifier.weight.normal_()
        network.head.classifier.bias -= network(batch).mean(dim=(0, 2, 3))
        own = list(network(batch).argmax(dim=1).numpy().astype(np.uint16))
    assert all(0.1 < labels.mean() < 0.9 for labels in own)
    torch.save(network.state_dict(), tmp_path / "start.pth")
    space = LabelSpace(("no", "yes"))
    val = ListDataset("own answers", space, list(zip(images, own, strict=True)))
    train = ListDataset("the opposite", space, [(p, 1 - labels) for p, labels in zip(images, own, strict=True)])
    run = atrous.train(
        (train, val),
        **{"model": "fcn-tiny", "weights": str(tmp_path / "start.pth"), "iterations": 8, "crop": 65, "batch": 2},
        **{"validations": 8, "lr": 0.01, "precision": "fp32", "out": tmp_path / "run"},
        set={"training.norm": "frozen", "training.ema_decay": 0.0, "training.warmup_fraction": 1.0},
    )
    scores = [float(row["miou"]) for row in read_rows(run.folder)]
    assert scores[-1] < scores[0] - 0.2  # it unlearns what it knew
    metrics = load_strictly((run.folder / "metrics.json").read_text())
    assert metrics["training"]["best_step"] == scores.index(max(scores)) + 1 < 8
    assert metrics["miou"] == max(scores) == run.scores.miou
    assert atrous.evaluate(run, val).miou == max(scores)
    assert load_config(recipe=run.folder / "config.yaml").config.data.source == "python"
    with pytest.raises(UsageError, match="trained on Python objects"):
        atrous.evaluate(run)
    assert call("train", "--resume", run.folder)[0] == 2


def test_python_objects_that_are_no_data_sets_are_refused_in_words(tmp_path):
    good = ListDataset("good", LabelSpace(("left", "right")), build_halves(1))
    other = ListDataset("other", LabelSpace(("left", "up")), build_halves(1))
    empty = ListDataset("empty", good.label_space, [])
    for data, kind, words in (
        ((good, [1, 2]), UsageError, "data: list has no name, label_space, get, key, mask, image_path, mask_path"),
        (good, UsageError, "Allowed: text or a Path or a Splits or a tuple or None."),
        ((good, empty), DataError, "empty: no images"),
        ((good, other), DataError, "differ in their label spaces"),
    ):
        with pytest.raises(kind) as caught:
            atrous.train(data, out=tmp_path / "run")
        assert words in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_an_id_outside_the_classes_stops_before_the_first_step(data, tmp_path):
    copied = tmp_path / "data"
    shutil.copytree(data, copied)
    (copied / "atrous.yaml").write_text("data:\n  classes: [a, b, c, d, e, f, g, h]\n")
    mask = sorted((copied / "masks" / "train").glob("*.png"))[3]
    pixels = np.array(Image.open(mask))
    pixels[0, :5] = 99
    Image.fromarray(pixels).save(mask)
    code, _, err = call("train", copied, *SETTINGS, "--iterations", 1, "--out", tmp_path / "run")
    assert code == 3
    assert mask.name in err
    assert "99 (5 pixels)" in err
    assert "data.ignore" in err
    assert not (tmp_path / "run").exists()


def test_a_run_that_could_not_begin_leaves_its_folder_free(tmp_path, data):
    words = ["train", data, "--weights", "none", "--iterations", 1, "--batch", 2, "--out", tmp_path / "run"]
    words += ["--set", "model.head={rates: [6], channels: 8}"]
    code, _, err = call(*words, "--crop", 65)
    assert code == 2
    assert "--crop 97" in err
    assert call(*words, "--crop", 65, "--set", "model.head={rates: [3], channels: 8}", "--quiet")[0] == 0


def test_a_folder_that_holds_a_run_is_refused(run, data):
    before = {path.name: path.stat().st_mtime_ns for path in run.iterdir()}
    code, _, err = call("train", data, *SETTINGS, "--out", run)
    assert code == 2
    assert "already holds a run" in err
    assert {path.name: path.stat().st_mtime_ns for path in run.iterdir()} == before


def test_a_dry_run_writes_nothing_and_says_what_would_be(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = call("train", data, *SETTINGS, "--iterations", 3, "--dry-run")
    assert code == 0
    assert "train: 8 images, val: 3 images" in out
    assert list_files(tmp_path) == []
    code, _, err = call("train", data, "--iterations", 3, "--crop", 65, "--dry-run")
    assert (code, "rate 18 reaches beyond it" in " ".join(err.split())) == (2, True)


def test_a_preview_is_an_image_and_no_run(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = call("train", data, *SETTINGS, "--iterations", 3, "--preview", "--json")
    assert code == 0
    path = Path(load_strictly(out)["preview"])
    assert list_files(tmp_path) == ["runs", str(path)]
    with Image.open(path) as image:
        assert image.format == path.suffix.removeprefix(".").upper() == "PNG"
        assert np.asarray(image).std() > 10


def test_a_preview_obeys_out_and_shows_what_the_training_would_see(tmp_path):
    options = {"data.source": "shapes", "data.options": {"num_train": 20, "num_val": 1, "size": 65}, "crop": 33}
    hard = {"training.hard_classes": ["frame"], "training.hard_repeats": 5}
    sheets = []
    for number, settings in enumerate(({}, hard)):
        loaded = load_config(options={**options, **settings, "output.folder": str(tmp_path / str(number))})
        path = api.preview_training(loaded)
        assert path == tmp_path / str(number) / "preview.png"
        sheets.append(path.read_bytes())
    assert sheets[0] != sheets[1]

    config = loaded.config
    splits = build_splits(config.data)
    statistics, _ = check_training_data(config.data, splits)
    one_pass = list_pass(config.training, splits.train.label_space, statistics)
    assert len(one_pass) > 20
    stream = build_stream(splits.train, config.training, one_pass)
    save_preview(stream, splits.train.label_space, tmp_path / "expected.png")
    assert sheets[1] == (tmp_path / "expected.png").read_bytes()


def test_a_loss_that_is_not_finite_stops_with_the_images_names(tmp_path):
    with pytest.raises(atrous.AtrousError, match=r"step \d has loss .*(nan|inf) .*\(images .*train/0000") as caught:
        train_shapes(tmp_path / "run", iterations=8, lr=1e9, precision="fp32")
    assert "lower `lr`" in caught.value.hint
    state = load_checkpoint(tmp_path / "run" / "last.ckpt").network
    assert all(tensor.isfinite().all() for tensor in state.values())


def test_too_few_minutes_are_refused_and_leave_nothing(tmp_path):
    with pytest.raises(atrous.ConfigError, match="min is too short"):
        train_shapes(tmp_path / "short", iterations=None, max_minutes=0.01)
    assert not (tmp_path / "short").exists()


@pytest.mark.slow
def test_minutes_are_kept(tmp_path):
    started = time.monotonic()
    run = train_shapes(tmp_path / "run", iterations=None, max_minutes=1.0)
    assert time.monotonic() - started < 60
    plan = load_checkpoint(run.folder / "last.ckpt").record["plan"]
    assert plan["total_steps"] > 10


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("models",), {*FAMILIES, *BACKBONES}),
        (("models", "show", "fcn-tiny"), {"fcn-tiny"}),
        (("datasets",), set(DATASETS)),
        (("datasets", "show", "shapes"), {"shapes"}),
    ],
)
def test_what_there_is_can_be_listed_and_shown(words, shown):
    for options in ((), ("--json",)):
        code, out, err = call(*words, *options)
        assert code == 0, err
        assert {name for name in shown if name not in out} == set()
    assert load_strictly(out)


@pytest.mark.slow
def test_torchvisions_state_dict_predicts_through_the_command_line(data, tmp_path):
    from torchvision.models.segmentation import deeplabv3_resnet50

    torch.manual_seed(0)
    theirs = deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=3).eval()
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    image = sorted((data / "images" / "val").glob("*.png"))[0]
    code, _, err = call("predict", image, "--model", tmp_path / "theirs.pth", "--out", tmp_path / "out")
    assert code == 0, err
    pixels = torch.from_numpy(np.array(Image.open(image))).permute(2, 0, 1)[None] / 255
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        labels = theirs((pixels - mean) / std)["out"][0].argmax(0).numpy()
    assert (np.asarray(Image.open(tmp_path / "out" / image.name)) == labels).mean() > 0.999
