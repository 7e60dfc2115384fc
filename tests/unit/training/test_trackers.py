"""Each tracker runs for real, offline, where its package is installed."""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from importlib.util import find_spec

import numpy as np
import pytest

from atrous.cli.main import main
from atrous.config.schema import Config
from atrous.core.errors import MachineError
from atrous.core.records import ClassScore, Note, Protocol, Scores
from atrous.core.run_folder import RunFolder
from atrous.training import trackers as module
from atrous.training.journal import Journal
from atrous.training.trackers import TRACKERS, Trackers, list_validation_values, require_trackers
from tiny import RUN_OPTIONS

SETTINGS = Config().model_dump(mode="json")
CLASSES = ("sky", "traffic light", "c++/日本")
VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID", "WANDB_MODE")


@pytest.fixture(autouse=True)
def _offline(monkeypatch, tmp_path):
    """No variable of the machine that runs the tests counts, and the packages send no usage data."""
    for name in (*VARIABLES, "WANDB_PROJECT", "WANDB_NAME", "WANDB_DIR", "WANDB_API_KEY", "WANDB_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.chdir(tmp_path)


def require(name):
    pytest.importorskip(name, reason=f"{name} is not installed; it is part of the extra `trackers`")


def build_scores(*names, miou=0.5):
    rows = tuple(
        ClassScore(name, 7 * n, None if n == 2 else 0.25 * n, None, None, 9, 9) for n, name in enumerate(names)
    )
    return Scores(miou, 0.75, rows, (), (), Protocol(), names[0], 0.1, ())


def record(run, name, messages, *, former=None, step=0):
    """Record two steps and a validation, as a training does, and close."""
    trackers = Trackers(messages.append)
    trackers.open([name], run, SETTINGS, former=former, step=step)
    for number in (1, 2):
        trackers.log_values({"train/loss": 1 / number, "train/lr": 0.01}, step + number)
    image = np.full((4, 6, 3), 200, np.uint8)
    trackers.log_validation(list_validation_values(build_scores(*CLASSES), 0.5), {"a/b 1": image}, step + 2)
    run.model.write_bytes(b"weights")
    trackers.log_model(run.model)
    ids = trackers.run_ids
    trackers.close("success")
    return ids


VALUES = {"train/loss", "train/lr", "val/miou", "val/pixel_accuracy", "epoch", "val/iou/sky", "val/iou/traffic_light"}
"""What a tracker has of `record`: the third class is undefined."""


def test_tensorboard_shows_values_settings_and_images(tmp_path):
    require("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, messages = RunFolder(tmp_path / "my run"), []
    run.path.mkdir()
    ids = record(run, "tensorboard", messages)
    record(run, "tensorboard", messages, former=ids, step=2)
    events = EventAccumulator(str(run.tracker("tensorboard")))
    events.Reload()
    tags = events.Tags()
    assert set(tags["scalars"]) == VALUES
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(1, 1), (2, 0.5), (3, 1), (4, 0.5)]
    assert tags["images"] == ["val/examples/0_a_b_1"]
    assert "settings/text_summary" in tags["tensors"]
    assert "_hparams_/session_start_info" in events.summary_metadata
    assert "training.lr" in str(events.summary_metadata["_hparams_/session_start_info"].plugin_data.content)
    assert messages[0] == f"tensorboard: tensorboard --logdir '{run.tracker('tensorboard')}'"


@contextlib.contextmanager
def using_mlflow():
    with module._no_warnings(), module._mlflow_defaults():
        yield


def open_mlflow(uri):
    with using_mlflow():
        import mlflow

        return mlflow.MlflowClient(uri)


def read_mlflow(client, experiment="atrous"):
    with using_mlflow():
        found = client.get_experiment_by_name(experiment)
        return client.search_runs([found.experiment_id])


def find_uri(messages):
    """Return the address in the command that shows the records."""
    return shlex.split(messages[0])[-1]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """The address of a store outside any run; creating one takes seconds."""
    require("mlflow")
    folder = tmp_path_factory.mktemp("elsewhere")
    uri = module._locate_store(folder)
    with using_mlflow(), contextlib.chdir(folder):  # below which MLflow keeps the files of such a store
        open_mlflow(uri).search_experiments()
    return uri


def test_mlflow_keeps_its_store_in_the_runs_folder(tmp_path):
    require("mlflow")
    run, messages = RunFolder(tmp_path / "a run"), []
    run.path.mkdir()
    ids = record(run, "mlflow", messages)
    record(run, "mlflow", messages, former=ids, step=2)
    client = open_mlflow(find_uri(messages))
    (found,) = read_mlflow(client)
    assert (found.info.run_name, found.info.status) == ("a run", "FINISHED")
    assert set(found.data.metrics) == VALUES
    assert found.data.params["training.lr"] == str(SETTINGS["training"]["lr"])
    with using_mlflow():
        history = client.get_metric_history(found.info.run_id, "train/loss")
        artifacts = {item.path for item in client.list_artifacts(found.info.run_id)}
        models = [item.path for item in client.list_artifacts(found.info.run_id, "model")]
    assert [(point.step, point.value) for point in history] == [(1, 1), (2, 0.5), (3, 1), (4, 0.5)]
    assert {"images", "model"} <= artifacts
    assert models == ["model/model.safetensors"]
    assert [path.name for path in tmp_path.iterdir()] == ["a run"]  # nothing beside the run


def test_mlflow_obeys_the_environment(store, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "cracks")
    run, messages = RunFolder(tmp_path / "run"), []
    run.path.mkdir()
    record(run, "mlflow", messages)
    assert messages == [f"mlflow: {store}"]
    assert len(read_mlflow(open_mlflow(store), "cracks")) == 1
    assert not run.tracker("mlflow").exists()
    assert os.environ["MLFLOW_TRACKING_URI"] == store
    assert "MLFLOW_ALLOW_FILE_STORE" not in os.environ


def test_mlflow_records_into_the_run_that_the_caller_has_open(store, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    with using_mlflow():
        import mlflow

        with mlflow.start_run() as mine:
            run = RunFolder(tmp_path / "run")
            run.path.mkdir()
            assert record(run, "mlflow", []) == {"mlflow": mine.info.run_id}
            status = mlflow.MlflowClient().get_run(mine.info.run_id).info.status
    assert status == "RUNNING"


def test_mlflow_without_a_database_keeps_files_in_the_runs_folder(tmp_path, monkeypatch):
    require("mlflow")
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "sqlalchemy" else find_spec(name))
    run, messages = RunFolder(tmp_path / "a run"), []
    run.path.mkdir()
    record(run, "mlflow", messages)
    assert find_uri(messages) == run.tracker("mlflow").as_uri()
    (found,) = read_mlflow(open_mlflow(find_uri(messages)))
    assert set(found.data.metrics) == VALUES


def test_wandb_records_offline_into_the_runs_folder(tmp_path):
    require("wandb")
    run, messages = RunFolder(tmp_path / "a run"), []
    run.path.mkdir()
    record(run, "wandb", messages)
    (path,) = run.path.glob("wandb/offline-run-*/run-*.wandb")
    deadline = time.monotonic() + 100
    while path.stat().st_size < 1000 and time.monotonic() < deadline:
        time.sleep(0.05)  # the package writes a little longer than its run lasts
    content = path.read_bytes()  # records of protobuf, in which texts are plain
    for text in (*VALUES, "trainer/global_step", "val/examples", "training", "a run", "model.safetensors", "best"):
        assert text.encode() in content, text
    assert messages[0] == f"wandb: offline; to upload it: wandb sync '{path.parent}'"
    assert len(list(path.parent.glob("files/media/images/val/*.png"))) == 1
    assert "WANDB_MODE" not in os.environ


@pytest.mark.parametrize(("mode", "place"), [("disabled", "disabled"), ("offline", "offline")])
def test_wandb_obeys_the_environment(mode, place, tmp_path, monkeypatch):
    require("wandb")
    monkeypatch.setenv("WANDB_MODE", mode)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    run, messages = RunFolder(tmp_path / "run"), []
    run.path.mkdir()
    record(run, "wandb", messages)
    assert messages[0].startswith(f"wandb: {place}")
    assert not (run.path / "wandb").exists()
    assert bool(list(tmp_path.glob("wandb/offline-run-*"))) == (mode == "offline")


@pytest.mark.parametrize(
    ("name", "variables", "words"),
    [
        ("mlflow", {"MLFLOW_TRACKING_URI": "http://me:secret@127.0.0.1:9"}, "MLFLOW_TRACKING_URI"),
        ("mlflow", {"MLFLOW_TRACKING_URI": "nonsense://x"}, "MLFLOW_TRACKING_URI"),
        ("wandb", {"WANDB_MODE": "sometimes"}, "WANDB_MODE"),
    ],
)
def test_a_tracker_that_cannot_be_opened_is_refused_before_the_first_step(
    name, variables, words, tmp_path, monkeypatch
):
    require(name)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(MachineError, match=f"the tracker {name} cannot be opened") as caught:
        Trackers([].append).open([name], RunFolder(tmp_path), SETTINGS)
    assert words in caught.value.hint
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_that_is_not_installed_is_named(name, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda package: None)
    with pytest.raises(MachineError, match=f"the tracker {name} is not installed") as caught:
        require_trackers([name])
    assert caught.value.hint.endswith(f" -m pip install {name}")


class Tracker:
    """A tracker that remembers what it received and fails while `is_down`."""

    run_id, place = "1", "here"

    def __init__(self, *_):
        self.received, self.closed, self.is_down = [], [], False

    def __getattr__(self, name):
        def receive(*values):
            if self.is_down:
                raise OSError(f"{name}: no connection to https://me:secret@example.org/x\nand more")
            (self.closed if name == "close" else self.received).append((name, *values))

        return receive


@pytest.fixture
def tracker(monkeypatch):
    one = Tracker()
    monkeypatch.setitem(TRACKERS, "mlflow", lambda *_: one)
    monkeypatch.setattr(module, "find_spec", lambda package: package)
    return one


def list_steps(tracker):
    return [point.step for name, *values in tracker.received if name == "log_points" for point in values[0]]


def test_an_outage_is_reported_once_and_leaves_no_gap(tracker, tmp_path):
    messages = []
    trackers = Trackers(messages.append)
    trackers.open(["mlflow"], RunFolder(tmp_path), SETTINGS)
    for step in range(1, 9):
        tracker.is_down = step in (3, 4, 5)
        trackers.log_values({"train/loss": 1.0}, step)
        trackers.log_validation({"val/miou": 0.1}, {}, step)
    trackers.log_model(tmp_path)
    trackers.close("success")
    assert sorted(list_steps(tracker)) == sorted([*range(1, 9)] * 2)
    assert tracker.closed == [("close", "success")]
    (failed,) = [message for message in messages if isinstance(message, Note)]
    assert failed.code == "tracker-failed"
    assert failed == "mlflow failed: log_points: no connection to https://example.org/x; the training continues"


def test_a_tracker_that_stays_away_is_named_with_what_it_lacks(tracker, tmp_path):
    messages = []
    trackers = Trackers(messages.append)
    trackers.open(["mlflow"], RunFolder(tmp_path), SETTINGS)
    trackers.log_validation({"val/miou": 0.1}, {}, 4)
    tracker.is_down = True
    trackers.log_validation({"val/miou": 0.1}, {}, 8)
    trackers.close("failed")
    assert [message.code for message in messages if isinstance(message, Note)] == [
        "tracker-failed",
        "tracker-incomplete",
    ]
    assert "since step 8" in messages[-1]


def test_steps_are_delivered_in_bundles(tracker, tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    trackers = Trackers([].append)
    trackers.open(["mlflow"], RunFolder(tmp_path), SETTINGS)
    for step in range(1, 100):
        now[0] = float(step)
        trackers.log_values({"train/loss": 1.0}, step)
    trackers.close("success")
    assert list_steps(tracker) == [*range(1, 100)]
    assert sum(name == "log_points" for name, *_ in tracker.received) == 10


@pytest.mark.parametrize(
    ("error", "status"), [(None, "success"), (ValueError("broken"), "failed"), (KeyboardInterrupt(), "aborted")]
)
def test_trackers_are_closed_once_however_the_training_ends(error, status, tracker, tmp_path):
    journal = Journal(RunFolder(tmp_path))
    with contextlib.suppress(ValueError, KeyboardInterrupt), journal:
        journal.trackers.open(["mlflow"], RunFolder(tmp_path), SETTINGS)
        if error:
            raise error
    journal.trackers.close("success")
    assert tracker.closed == [("close", status)]


def test_class_names_are_fit_for_every_tracker_and_distinct():
    values = list_validation_values(build_scores("c+", "c-+", "ok", "größe", miou=None), 1.0)
    assert "val/miou" not in values
    assert list(values)[2:] == ["val/iou/c_", "val/iou/c-_", "val/iou/größe"]
    values = list_validation_values(build_scores("a b", "a/b"), 1.0)
    assert list(values)[3:] == ["val/iou/0_a_b", "val/iou/7_a_b"]


def test_a_training_records_into_every_tracker_and_a_resumed_one_continues(shapes_folder, tmp_path):
    names = [name for name in TRACKERS if module.find_spec(name)]
    if not names:
        pytest.skip("no tracker is installed")
    loggers = [word for name in names for word in ("--logger", name)]
    run = RunFolder(tmp_path / "run")
    assert main(["train", str(shapes_folder), *RUN_OPTIONS, "--out", str(run.path), *loggers]) == 0
    assert (run.path / "mlflow").exists() == ("mlflow" in names)
    if "tensorboard" in names:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(run.tracker("tensorboard")))
        events.Reload()
        assert len(events.Scalars("train/loss")) == 8
        assert len(events.Scalars("val/miou")) == 4
        assert len(events.Tags()["images"]) == 3
    log = run.log.read_text(encoding="utf-8")
    assert all(f"\n{name}: " in log for name in names)
    assert "tracker" not in log
