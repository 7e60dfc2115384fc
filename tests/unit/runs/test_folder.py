from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest
import torch
from PIL import Image

import atrous
from atrous.cli.main import main
from atrous.config.schema import DataConfig
from atrous.core.errors import MachineError, ModelFileError, UsageError
from atrous.core.output_folder import hold_folder
from atrous.core.run_folder import RunFolder
from atrous.data.build import build_splits
from atrous.data.datasets.shapes import build_shapes
from atrous.runs import stages as stages_module
from atrous.training import loop, prepare
from atrous.training.journal import Journal
from atrous.training.trackers import TRACKERS, Trackers
from tiny import RUN_OPTIONS

SETTINGS = {
    **{"model": "fcn-tiny", "weights": "none", "iterations": 1, "crop": 33, "batch": 2, "validations": 1},
    "set": {"data.options": {"num_train": 16, "num_val": 1, "size": 65}},
}
NAMES = [
    *("config.yaml", "images.json", "metrics.json", "metrics.csv", "model.safetensors", "last.ckpt", "report.html"),
    *("log.txt", "examples/0_image.jpg", "stage-1/model.safetensors"),
    *("tensorboard/events", "mlflow/mlflow.db", "wandb/latest-run"),
]


def train(out: Path, **options):
    settings = SETTINGS["set"] | options.pop("set", {})
    return atrous.train("shapes", out=out, **{**SETTINGS, **options, "set": settings})


def list_contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", NAMES)
def test_files_that_a_training_would_overwrite_are_refused_and_stay(tmp_path, name):
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.write_text("of somebody's own")
    before = list_contents(tmp_path)
    with pytest.raises(UsageError, match=f"holds {name.split('/')[0]}, which|already holds a run"):
        train(tmp_path / "out")
    assert list_contents(tmp_path) == before


LAYOUTS = {
    "images and masks": ("images/a/{}", "masks/a/{}", ["images/run", "masks/run", "images/a", "images/a/b/run"], "run"),
    "splits inside": ("images/{split}/{}", "masks/{split}/{}", ["images/train/run", "masks/val"], "runs/1"),
    "SegNet's": ("{split}/{}", "{split}annot/{}", ["train/run", "valannot/run"], "run"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_run_inside_the_folders_of_the_data_is_refused_and_beside_them_it_is_not(tmp_path, layout):
    image_form, mask_form, inside, beside = LAYOUTS[layout]
    data = build_shapes(num_train=8, num_val=1, size=65).train
    for index in range(8):
        sample, split = data.get(index), "train" if index < 6 else "val"
        for form, pixels in ((image_form, sample.image), (mask_form, data.mask(index))):
            path = tmp_path / f"{form.format(index, split=split)}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    before = list_contents(tmp_path)
    for place in inside:
        with pytest.raises(UsageError, match=r"is inside .*, a folder of the data"):
            atrous.train(tmp_path, out=tmp_path / place, **SETTINGS | {"set": {}})
    assert list_contents(tmp_path) == before
    splits = build_splits(DataConfig(source=str(tmp_path)))
    assert atrous.train(tmp_path, out=tmp_path / beside, **SETTINGS | {"set": {}}).folder == tmp_path / beside
    # Python data sets list their files themselves, so what is added changes nothing.
    place = tmp_path / inside[0]
    assert atrous.train((splits.train, splits.val), out=place, **SETTINGS | {"set": {}}).folder == place


def test_other_files_in_the_folder_stay_beside_the_run(tmp_path):
    (tmp_path / "notes.md").write_text("mine")
    (tmp_path / "preview.png").write_text("from train --preview")
    assert train(tmp_path).folder == tmp_path
    assert (tmp_path / "notes.md").read_text() == "mine"
    assert not (tmp_path / ".lock").exists()


REFUSALS = {
    "network": {"set": {"model.head": {"rats": [6]}}},
    "data": {"set": {"data.options": {"num_train": 0, "num_val": 1, "size": 65}}},
    "class weights": {"class_weights": [1.0, 2.0]},
    "hard classes": {"set": {"training.hard_classes": ["cow"]}},
    "weights": {"weights": "other.pth"},
    "minutes": {"iterations": None, "max_minutes": 0.001},
    "second stage": {"set": {"stages": [{}, {"model.output_stride": 7}]}},
    "weights, in the first of two stages": {"weights": "other.pth", "set": {"stages": [{}, {}]}},
}


@pytest.mark.parametrize("options", REFUSALS.values(), ids=REFUSALS)
@pytest.mark.parametrize("parent", ["", "some/new/"])
def test_whatever_is_refused_before_the_first_step_leaves_no_folder(tmp_path, monkeypatch, options, parent):
    monkeypatch.chdir(tmp_path)
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    for out in (tmp_path / parent / "run", None):
        with pytest.raises(atrous.AtrousError):
            train(out, **options)
        assert os.listdir(tmp_path) == ["other.pth"]


def test_a_crash_while_preparing_leaves_no_folder(tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(prepare, "build_optimizer", fail)
    with pytest.raises(MemoryError):
        train(tmp_path / "run")
    assert not os.listdir(tmp_path)


def test_a_resumed_run_that_is_interrupted_while_preparing_says_how_to_go_on(tmp_path, monkeypatch, trained_run):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    folder = tmp_path / "run"
    shutil.copytree(trained_run, folder)
    monkeypatch.setattr(prepare, "build_optimizer", interrupt)
    with pytest.raises(KeyboardInterrupt) as caught:
        atrous.train(resume=folder)
    assert caught.value.__notes__ == [f"Continue with: atrous train --resume {folder}"]


@pytest.mark.parametrize("stages", [[], [{}, {}]], ids=["one stage", "two stages"])
def test_a_run_that_was_killed_before_its_first_checkpoint_is_resumed(tmp_path, monkeypatch, stages):
    out, killed = tmp_path / "run", []

    def keep_state(owner: object, name: str) -> None:
        """Keep the folder as a kill just before a call would leave it."""
        call = getattr(owner, name)

        def wrapped(*values: object, **named: object) -> object:
            if not RunFolder(out).has_begun:
                killed.append(shutil.copytree(out, tmp_path / f"{len(killed)} before {name}"))
            return call(*values, **named)

        monkeypatch.setattr(owner, name, wrapped)

    with monkeypatch.context() as monkeypatch:
        keep_state(stages_module, "save_images")
        keep_state(Trackers, "open")
        keep_state(Journal, "begin")
        keep_state(loop, "_save")
        train(out, set={"stages": stages})
    assert len(killed) == 4 + bool(stages)
    for folder in killed:
        (folder / "tensorboard").mkdir(exist_ok=True)
        (folder / ".lock").write_text("1")
        with pytest.raises(UsageError, match="already holds a run") as caught:
            train(folder)
        assert "atrous train --resume" in caught.value.hint
        assert atrous.train(resume=folder).scores is not None
        assert RunFolder(folder).metrics.is_file()
        assert (folder / "config.yaml").read_bytes() == (out / "config.yaml").read_bytes()


@pytest.mark.parametrize("name", ["metrics.json", "metrics.csv", "model.safetensors", "report.html", "examples"])
def test_a_run_with_results_and_no_checkpoint_is_not_started_again(tmp_path, trained_run, name):
    (tmp_path / "run").mkdir()
    shutil.copy(trained_run / "config.yaml", tmp_path / "run")
    copy = shutil.copytree if name == "examples" else shutil.copy
    copy(trained_run / name, tmp_path / "run" / name)
    with pytest.raises(ModelFileError, match=r"it has no last\.ckpt"):
        atrous.train(resume=tmp_path / "run")


@pytest.mark.parametrize("stages", [[], [{}, {}]], ids=["one stage", "two stages"])
def test_a_tracker_that_cannot_be_opened_leaves_no_folder(tmp_path, monkeypatch, stages):
    def fail(*_: object) -> None:
        raise OSError("no server")

    monkeypatch.setitem(TRACKERS, "tensorboard", fail)
    with pytest.raises(MachineError, match="tensorboard cannot be opened"):
        train(tmp_path / "run", logger=["tensorboard"], set={"stages": stages})
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("failure", [OSError("no server"), KeyboardInterrupt()], ids=["error", "Ctrl-C"])
@pytest.mark.parametrize("kept", ["config.yaml", "images.json"])
def test_a_file_that_cannot_be_removed_hides_no_error(tmp_path, monkeypatch, failure, kept):
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.name == kept:
            raise PermissionError(13, "Permission denied")
        unlink(path, missing_ok)

    def fail(*_: object) -> None:
        monkeypatch.setattr(Path, "unlink", refuse)
        raise failure

    monkeypatch.setitem(TRACKERS, "tensorboard", fail)
    expected = KeyboardInterrupt if isinstance(failure, KeyboardInterrupt) else MachineError
    with pytest.raises(expected) as caught:
        train(tmp_path / "run", logger=["tensorboard"])
    assert expected is KeyboardInterrupt or "tensorboard cannot be opened" in caught.value.message
    assert not (tmp_path / "run" / ({"config.yaml", "images.json"} - {kept}).pop()).exists()


def test_a_new_run_stays_whole_if_a_tracker_has_written(tmp_path, monkeypatch):
    def fail(run: RunFolder, *_: object) -> None:
        run.tracker("tensorboard").mkdir()
        raise OSError("no server")

    monkeypatch.setitem(TRACKERS, "tensorboard", fail)
    with pytest.raises(MachineError, match="tensorboard cannot be opened"):
        train(tmp_path / "run", logger=["tensorboard"])
    assert {"config.yaml", "tensorboard"} <= set(os.listdir(tmp_path / "run"))


def test_two_trainings_never_write_into_one_folder(tmp_path, trained_run):
    folder = tmp_path / "run"
    shutil.copytree(trained_run, folder)
    new = tmp_path / "new"
    with hold_folder(folder), hold_folder(new):
        before = list_contents(tmp_path)
        for call in (lambda: train(new), lambda: atrous.train(resume=folder)):
            with pytest.raises(UsageError, match="this process is writing there"):
                call()
        assert list_contents(tmp_path) == before


def test_trainings_started_together_get_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs, errors = [], []

    def start() -> None:
        try:
            runs.append(train(None))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert sorted(run.folder.name for run in runs) == [f"shapes-fcn-tiny-{number}" for number in (1, 2, 3)]
    assert all(RunFolder(run.folder).metrics.is_file() for run in runs)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["train", "shapes", *RUN_OPTIONS, "--out"], ""),
        (["train", "shapes", *RUN_OPTIONS, "--dry-run", "--out"], ""),
        (["train", "shapes", *RUN_OPTIONS, "--preview", "--out"], ""),
        (["demo", "--out"], ""),
        (["reproduce", "table10", "--out"], ""),
        (["reproduce", "figures", "--out"], ""),
        (["bench", "RUN", "--out"], ""),
        (["export", "RUN", "--out"], "model.onnx"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
@pytest.mark.parametrize("place", ["file", "file/below", "/proc/x", "/dev/null/x"])
def test_a_place_where_nothing_can_be_written_is_two_lines_in_every_command(
    tmp_path, trained_run, capsys, words, name, place
):
    (tmp_path / "file").write_text("kept")
    words = [str(trained_run) if word == "RUN" else word for word in words]
    code = main([*words, str(tmp_path / place / name)])
    lines = capsys.readouterr().err.splitlines()
    assert code == 2, lines
    assert "--debug" not in " ".join(lines)
    assert "file" in " ".join(lines) or "cannot be made" in " ".join(lines)
    assert len(lines) == 2 or words[0] == "train"
    assert list_contents(tmp_path) == {"file": b"kept"}


def test_what_cannot_be_continued_is_said_with_the_way_on(tmp_path, trained_run):
    with pytest.raises(UsageError, match="is no run"):
        atrous.train(resume=tmp_path / "nowhere")
    assert not os.listdir(tmp_path)
    for given in ({"recipe": "demo"}, {"out": tmp_path / "x"}):
        with pytest.raises(UsageError, match="is continued keeps its recipe and its folder"):
            atrous.train(resume=trained_run, **given)
    with pytest.raises(UsageError, match="no data given"):
        atrous.train()
    folder = tmp_path / "run"
    shutil.copytree(trained_run, folder)
    (folder / "last.ckpt").unlink()
    with pytest.raises(ModelFileError, match=r"it has no last\.ckpt") as caught:
        atrous.train(resume=folder)
    assert f"atrous train --recipe {folder}/config.yaml" in caught.value.hint
