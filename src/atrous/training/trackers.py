"""Trackers: TensorBoard, MLflow and Weights & Biases, each through its own package. The only file that imports them."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from atrous.core.errors import MachineError
from atrous.core.install import describe_install
from atrous.core.records import MessageCallback, Note, Scores
from atrous.core.run_folder import RunFolder
from atrous.training.contracts import Point, Status, Tracker

PROJECT = "atrous"
"""Experiment in MLflow and project in Weights & Biases, unless the environment names one."""
EXAMPLES = "val/examples"
SEND_S = 10.0
"""Seconds between two deliveries of the values of training steps, so that a server is not asked once per step."""
MOST_METRICS = 1000
MOST_PARAMETERS = 100
MOST_PARAMETER_CHARACTERS = 500
"""Limits of one request to MLflow."""


class Trackers:
    """The trackers of a training. A failing tracker is reported once and never ends the training.

    What a tracker did not accept is sent again at the next validation, so a short outage leaves no gap.

    Args:
        on_message: Receives messages about the trackers.
    """

    def __init__(self, on_message: MessageCallback) -> None:
        self._on_message = on_message
        self._open: dict[str, Tracker] = {}
        self._pending: dict[str, list[Point]] = {}
        self._failing: set[str] = set()
        self._reported: set[str] = set()
        self._sent_at = time.monotonic()

    def __bool__(self) -> bool:
        return bool(self._open)

    @property
    def run_ids(self) -> dict[str, str | None]:
        """The run in each tracker, for `open` of a resumed training."""
        return {name: tracker.run_id for name, tracker in self._open.items()}

    def open(
        self,
        names: Sequence[str],
        run: RunFolder,
        settings: Mapping[str, Any],
        *,
        former: Mapping[str, str | None] | None = None,
        step: int = 0,
    ) -> None:
        """Open trackers.

        Args:
            names: tensorboard, mlflow, wandb.
            run: The run's folder.
            settings: The settings of the training, as nested sections.
            former: `run_ids` of the training that is resumed.
            step: Optimiser steps done.
        Raises:
            MachineError: A package is missing, or a tracker cannot be opened, for instance because its server does
                not respond.
        """
        require_trackers(names)
        for name in names:
            is_resumed = name in (former or {})
            try:
                with _no_warnings():
                    tracker = TRACKERS[name](run, (former or {}).get(name), step)
                    self._open[name], self._pending[name] = tracker, []
                    if not is_resumed:
                        tracker.log_settings(settings)
            except Exception as error:
                hint = f"Check {_VARIABLES[name]} and the network, or train without `logger={name}`."
                raise MachineError(f"the tracker {name} cannot be opened: {_describe(error)}", hint) from error
            self._on_message(f"{name}: {tracker.place}")

    def log_values(self, values: Mapping[str, float], step: int) -> None:
        """Record values. They are delivered within `SEND_S` seconds of the following call.

        Args:
            values: By name, such as "train/loss".
            step: Optimiser steps done.
        """
        self._add(values, step)
        if time.monotonic() - self._sent_at > SEND_S:
            self._deliver(self._open.keys() - self._failing)

    def log_validation(self, values: Mapping[str, float], images: Mapping[str, np.ndarray], step: int) -> None:
        """Record a validation and deliver everything that is pending.

        Args:
            values: By name, such as "val/miou".
            images: Examples by the key of their sample.
            step: Optimiser steps done.
        Shapes:
            images (H, W, 3) uint8
        """
        self._add(values, step)
        for name in self._deliver(self._open):
            self._try(name, lambda tracker: tracker.log_images(images, step))

    def log_model(self, path: Path) -> None:
        """Store a model file in every tracker that stores files."""
        for name in self._open:
            self._try(name, lambda tracker: tracker.log_model(path))

    def close(self, status: Status) -> None:
        """Deliver everything that is pending and close the trackers, each once, even if another one fails.

        Args:
            status: How the training ended; the trackers record it.
        """
        self._deliver(self._open)
        for name in list(self._open):
            self._try(name, lambda tracker: tracker.close(status))
            if lost := self._pending.pop(name):
                message = f"{name} lacks the values since step {lost[0].step:,}; metrics.csv has all validations"
                self._on_message(Note("tracker-incomplete", message))
            del self._open[name]

    def _add(self, values: Mapping[str, float], step: int) -> None:
        point = Point(step, time.time(), dict(values))
        for points in self._pending.values():
            points.append(point)

    def _deliver(self, names: Collection[str]) -> list[str]:
        """Send what is pending; return the trackers that accepted it."""
        self._sent_at = time.monotonic()
        accepted = []
        for name in names:
            if self._try(name, partial(_send, points=self._pending[name])):
                accepted.append(name)
                self._pending[name] = []
        self._failing = (self._failing | set(names)) - set(accepted)
        return accepted

    def _try(self, name: str, action: Callable[[Tracker], None]) -> bool:
        try:
            with _no_warnings():
                action(self._open[name])
        except Exception as error:  # of any kind: the package's, the network's, the disk's
            if name not in self._reported:
                self._reported.add(name)
                self._on_message(Note("tracker-failed", f"{name} failed: {_describe(error)}; the training continues"))
            return False
        return True


class TensorBoardTracker:
    """Event files in the run's folder.

    Args:
        run: The run's folder.
        run_id: Not used: the folder is the run.
        step: Optimiser steps done; TensorBoard drops later values of the training that is resumed.
    """

    run_id: str | None = None

    def __init__(self, run: RunFolder, run_id: str | None, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = run.tracker("tensorboard")
        self.place = f"tensorboard --logdir {shlex.quote(str(folder))}"
        self._writer: Any = SummaryWriter(str(folder), purge_step=step + 1 if step else None)

    def log_settings(self, settings: Mapping[str, Any]) -> None:
        """Fill the tabs HParams and Text."""
        from torch.utils.tensorboard.summary import hparams

        flat = dict(_flatten(settings))
        self._writer.add_text("settings", "\n".join(f"    {key}: {value}" for key, value in flat.items()))
        # The tab shows the latest scalar of that name.
        for summary in hparams(flat, {"val/miou": 0.0}):  # type: ignore[no-untyped-call]
            self._writer.file_writer.add_summary(summary)

    def log_points(self, points: Sequence[Point]) -> None:
        """Write scalars."""
        for point in points:
            for name, value in point.values.items():
                self._writer.add_scalar(name, value, point.step, walltime=point.time_s)
        self._writer.flush()

    def log_images(self, images: Mapping[str, np.ndarray], step: int) -> None:
        """Write images (H, W, 3)."""
        for key, image in _name_images(images).items():
            self._writer.add_image(key, image, step, dataformats="HWC")
        self._writer.flush()

    def log_model(self, path: Path) -> None:
        """Do nothing: event files hold no models."""

    def close(self, status: Status) -> None:
        """Close the event file."""
        self._writer.close()


class MLflowTracker:
    """A run in MLflow: the caller's active run, or a new one where the environment says, else in the run's folder.

    Args:
        run: The run's folder.
        run_id: The run to continue.
        step: Not used.
    """

    def __init__(self, run: RunFolder, run_id: str | None, step: int) -> None:
        with _mlflow_defaults():
            import mlflow

            active = mlflow.active_run()
            self._is_ours = active is None
            folder: Path | None = None
            if active or mlflow.is_tracking_uri_set() or os.environ.get("MLFLOW_EXPERIMENT_ID"):
                uri = mlflow.get_tracking_uri()
                self.place = _hide_password(uri)
            else:
                folder = run.tracker("mlflow").absolute()
                uri = _locate_store(folder)
                self.place = f"mlflow ui --backend-store-uri {shlex.quote(uri)}"
            self._client = mlflow.MlflowClient(uri)
            self.run_id: str | None = active.info.run_id if active else self._start(run, run_id, folder)

    def _start(self, run: RunFolder, run_id: str | None, folder: Path | None) -> str:
        """Continue a run or create one; return its identifier."""
        from mlflow.exceptions import MlflowException

        former = run_id or os.environ.get("MLFLOW_RUN_ID")
        if former:
            try:
                self._client.update_run(former, status="RUNNING")
                return former
            except MlflowException:
                if run_id is None:
                    raise  # the environment names a run that does not exist
        artifacts = None if folder is None else (folder / "artifacts").as_uri()
        created = self._client.create_run(self._find_experiment(artifacts), run_name=run.title)
        return str(created.info.run_id)

    def _find_experiment(self, artifacts: str | None) -> str:
        from mlflow.exceptions import MlflowException

        if found := os.environ.get("MLFLOW_EXPERIMENT_ID"):
            return found
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT
        try:
            if experiment := self._client.get_experiment_by_name(name):
                return str(experiment.experiment_id)
            return str(self._client.create_experiment(name, artifact_location=artifacts))
        except MlflowException:
            if experiment := self._client.get_experiment_by_name(name):  # another training created it meanwhile
                return str(experiment.experiment_id)
            raise

    def log_settings(self, settings: Mapping[str, Any]) -> None:
        """Record parameters by dotted key."""
        from mlflow.entities import Param

        parameters = [Param(key, str(value)[:MOST_PARAMETER_CHARACTERS]) for key, value in _flatten(settings)]
        with _mlflow_defaults():
            for start in range(0, len(parameters), MOST_PARAMETERS):
                self._client.log_batch(self.run_id, params=parameters[start : start + MOST_PARAMETERS])

    def log_points(self, points: Sequence[Point]) -> None:
        """Record metrics, in as few requests as MLflow allows."""
        from mlflow.entities import Metric

        metrics = [
            Metric(name, value, int(point.time_s * 1000), point.step)
            for point in points
            for name, value in point.values.items()
        ]
        with _mlflow_defaults():
            for start in range(0, len(metrics), MOST_METRICS):
                self._client.log_batch(self.run_id, metrics=metrics[start : start + MOST_METRICS])

    def log_images(self, images: Mapping[str, np.ndarray], step: int) -> None:
        """Record images (H, W, 3), which the interface shows by step."""
        with _mlflow_defaults():
            for key, image in _name_images(images).items():
                self._client.log_image(self.run_id, image, key=key, step=step)

    def log_model(self, path: Path) -> None:
        """Store the file among the artifacts, in the folder `model`."""
        with _mlflow_defaults():
            self._client.log_artifact(self.run_id, str(path), "model")

    def close(self, status: Status) -> None:
        """Set the run's status: finished, killed or failed."""
        if self._is_ours:
            ended = {"success": "FINISHED", "aborted": "KILLED", "failed": "FAILED"}[status]
            with _mlflow_defaults():
                self._client.set_terminated(self.run_id, ended)


class WandbTracker:
    """A run in Weights & Biases: the caller's, or a new one, which is offline unless the environment says otherwise.

    Args:
        run: The run's folder.
        run_id: The run to continue.
        step: Not used.
    """

    def __init__(self, run: RunFolder, run_id: str | None, step: int) -> None:
        import wandb

        self._is_ours = wandb.run is None
        self._run = wandb.run or wandb.init(**_choose_wandb_options(run, run_id))
        self._run.define_metric("trainer/global_step")
        self._run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        self.run_id: str | None = self._run.id
        folder = shlex.quote(str(Path(self._run.dir).parent))
        self.place = (
            "disabled" if self._run.disabled else self._run.url or f"offline; to upload it: wandb sync {folder}"
        )

    def log_settings(self, settings: Mapping[str, Any]) -> None:
        """Record the configuration, as nested sections."""
        self._run.config.update(dict(settings), allow_val_change=True)

    def log_points(self, points: Sequence[Point]) -> None:
        """Record values over `trainer/global_step`."""
        for point in points:
            self._run.log({**point.values, "trainer/global_step": point.step})

    def log_images(self, images: Mapping[str, np.ndarray], step: int) -> None:
        """Record images (H, W, 3) as one panel."""
        import wandb

        panel = [wandb.Image(image, caption=key) for key, image in images.items()]
        self._run.log({EXAMPLES: panel, "trainer/global_step": step})

    def log_model(self, path: Path) -> None:
        """Store the file as an artifact of type model with the alias best."""
        import wandb

        artifact = wandb.Artifact(f"model-{self._run.id}", type="model")
        artifact.add_file(str(path))
        self._run.log_artifact(artifact, aliases=["best"])

    def close(self, status: Status) -> None:
        """Finish the run."""
        if self._is_ours:
            self._run.finish(exit_code=0 if status == "success" else 1)


TRACKERS: dict[str, Callable[[RunFolder, str | None, int], Tracker]] = {
    "tensorboard": TensorBoardTracker,
    "mlflow": MLflowTracker,
    "wandb": WandbTracker,
}
"""Each tracker by the name that `--logger` takes, which is also the name of its package."""
_VARIABLES = {"tensorboard": "the run's folder", "mlflow": "MLFLOW_TRACKING_URI", "wandb": "WANDB_MODE"}


def _send(tracker: Tracker, points: Sequence[Point]) -> None:
    tracker.log_points(points)


def require_trackers(names: Sequence[str]) -> None:
    """Check that the packages of some trackers are installed, without importing them.

    Raises:
        MachineError: One is missing.
    """
    for name in names:
        if find_spec(name) is None:
            raise MachineError(f"the tracker {name} is not installed", describe_install(name))


def list_validation_values(scores: Scores, epoch: float) -> dict[str, float]:
    """Return what trackers record of a validation; undefined scores are omitted.

    Args:
        scores: The scores.
        epoch: Passes over the training data.
    """
    names = [_clean(row.name) for row in scores.classes]
    if len(set(names)) < len(names):
        names = [f"{row.id}_{name}" for row, name in zip(scores.classes, names, strict=True)]
    values = {
        "epoch": epoch,
        "val/miou": scores.miou,
        "val/pixel_accuracy": scores.pixel_accuracy,
        **{f"val/iou/{name}": row.iou for name, row in zip(names, scores.classes, strict=True)},
    }
    return {name: value for name, value in values.items() if value is not None}


def _clean(name: str) -> str:
    """Return a name with the characters that every tracker accepts."""
    return re.sub(r"[^\w-]+", "_", name)[:100]


def _name_images(images: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return images (H, W, 3) under distinct names in ASCII, which is all that MLflow accepts."""
    keys = [re.sub(r"[^A-Za-z0-9_-]+", "_", key)[:100] for key in images]
    return {f"{EXAMPLES}/{n}_{key}": image for n, (key, image) in enumerate(zip(keys, images.values(), strict=True))}


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, bool | int | float | str]]:
    """Yield settings by dotted key; lists and missing values as JSON."""
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, bool | int | float | str) else json.dumps(value)


def _describe(error: Exception) -> str:
    """Return the first line of an error, shortened, without passwords in addresses."""
    lines = str(error).strip().splitlines()
    return _hide_password(lines[0])[:300] if lines else type(error).__name__


def _hide_password(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//", text)


def _locate_store(folder: Path) -> str:
    """Return the address of a store in a folder: a database, or files where the package comes without databases."""
    folder.mkdir(parents=True, exist_ok=True)
    if find_spec("sqlalchemy") and find_spec("alembic"):
        from sqlalchemy.engine import URL

        return str(URL.create("sqlite", database=(folder / "mlflow.db").as_posix()).render_as_string())
    return folder.as_uri()


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Within the block no warning is shown: those of a tracker's package concern neither the training nor its user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _mlflow_defaults() -> Iterator[None]:
    """Within the block MLflow opens stores of files, gives up soon on a server, and does not report its own progress.

    Its package reads these settings from the environment alone. Variables that are set keep their values.
    """
    defaults = {
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    }
    added = {name: value for name, value in defaults.items() if name not in os.environ}
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic")]
    levels = [logger.level for logger in loggers]
    os.environ.update(added)
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _choose_wandb_options(run: RunFolder, run_id: str | None) -> dict[str, Any]:
    """Return the arguments of `wandb.init`: the variables of the environment, and defaults for those that are not set.

    The package itself reads its variables once in a process.
    """
    import wandb

    def find(variable: str, default: str | None) -> str | None:
        return os.environ.get(variable) or default

    decides = any(os.environ.get(name) for name in ("WANDB_API_KEY", "WANDB_DISABLED"))
    silent = not any(os.environ.get(name) for name in ("WANDB_SILENT", "WANDB_QUIET"))
    return {
        "project": find("WANDB_PROJECT", PROJECT),
        "name": find("WANDB_NAME", run.title),
        "dir": find("WANDB_DIR", str(run.path)),
        "mode": find("WANDB_MODE", None if decides else "offline"),
        "id": run_id,
        "resume": "allow" if run_id else None,
        "settings": wandb.Settings(console=find("WANDB_CONSOLE", "off"), **({"silent": True} if silent else {})),
    }
