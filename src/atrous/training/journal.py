"""What a run reports while it trains: progress, log.txt, a row of metrics.csv per validation, trackers."""

from __future__ import annotations

import csv
import io
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from types import TracebackType
from typing import Literal

from lightning.fabric.loggers.logger import Logger

from atrous.core.errors import AtrousError, MachineError
from atrous.core.files import save_text
from atrous.core.records import MessageCallback, Note, NoteCollector, Progress, ProgressCallback
from atrous.core.run_folder import RunFolder
from atrous.core.system_errors import describe_shortage, describe_write_error

Row = dict[str, float | int | str | None]
Status = Literal["success", "aborted", "failed"]

_PACKAGES = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "mlflow": ("mlflow",),
    "wandb": ("wandb",),
}
"""Packages of each tracker; one of them has to be installed."""


class Journal:
    """Writes the records of a run into its folder and forwards messages and progress to the caller.

    It is a context manager: the trackers are closed however the block ends, with status "failed" after an exception.

    Args:
        run: The run's folder.
        trackers: Trackers beside metrics.csv: tensorboard, mlflow, wandb.
        notes: What was assumed and found before the training; log.txt begins with it.
        is_writer: Whether this process writes files; one process of a training does.
        on_message: Receives messages about automatic choices and findings.
        progress: Receives the progress.
    Raises:
        MachineError: The package of a tracker is missing.
    """

    def __init__(
        self,
        run: RunFolder,
        trackers: Sequence[str] = (),
        *,
        notes: Iterable[Note] = (),
        is_writer: bool = True,
        on_message: MessageCallback | None = None,
        progress: ProgressCallback | None = None,
    ) -> None:
        self.run = run
        self.rows: list[Row] = []
        self._is_writer = is_writer
        self._forward = NoteCollector(on_message)
        self._progress = progress
        self._trackers: dict[str, Logger] = {}
        for note in notes:  # the caller has sent them already
            self._forward.notes.append(note)
            self._write(note)
        try:
            for name in trackers if is_writer else ():
                self._trackers[name] = build_tracker(name, run)
        except BaseException:
            self.close("failed")
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            with suppress(AtrousError):  # such as the full disk that is the reason
                self._write(f"stopped: {_describe_end(error)}")
        interrupted = isinstance(error, KeyboardInterrupt)
        self.close("success" if error is None else "aborted" if interrupted else "failed")

    @property
    def notes(self) -> tuple[Note, ...]:
        """The notes so far."""
        return tuple(self._forward.notes)

    def log(self, text: str) -> None:
        """Forward a sentence and append it to log.txt.

        Raises:
            MachineError: The disk is full, or the user may not write there.
        """
        self._write(text)
        self._forward(text)

    def _write(self, text: str) -> None:
        if not self._is_writer:
            return
        try:
            with self.run.log.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text + "\n")
        except OSError as error:
            raise describe_write_error(error, self.run.log) from error

    def show(self, stage: str, done: int, total: int | None, note: str = "") -> None:
        """Forward the progress of a stage.

        Args:
            stage: Name of the stage, such as "training".
            done: Units finished.
            total: Units in all; None if unknown.
            note: Figures worth showing, such as "loss 0.41".
        """
        if self._progress is not None:
            self._progress(Progress(stage, done, total, note))

    def watch(self, stage: str) -> ProgressCallback:
        """Return a callback that forwards progress under the name of another stage."""
        return lambda at: self.show(stage, at.done, at.total, at.note)

    def track(self, values: Mapping[str, float], step: int) -> None:
        """Send values to the trackers.

        Args:
            values: By name, such as "train/loss".
            step: Optimiser steps done.
        """
        for tracker in self._trackers.values():
            tracker.log_metrics(dict(values), step)

    def add_row(self, row: Row) -> None:
        """Add a row to metrics.csv, which is rewritten as a whole, and send its numbers to the trackers."""
        self.rows.append(row)
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(row))
        writer.writeheader()
        writer.writerows(self.rows)
        if self._is_writer:
            save_text(self.run.curve, text.getvalue())
        self.track({k: v for k, v in row.items() if isinstance(v, int | float)}, int(row["step"] or 0))

    def close(self, status: Status) -> None:
        """Close the trackers, each once, even if closing another one fails.

        Args:
            status: How the training ended; the trackers record it.
        """
        while self._trackers:
            name, tracker = self._trackers.popitem()
            try:
                tracker.finalize("KILLED" if (name, status) == ("mlflow", "aborted") else status)  # mlflow's own word
                if name == "wandb":
                    _finish_wandb(status)
            except Exception as error:
                self.log(f"the tracker {name} could not be closed: {error}")


def _describe_end(error: BaseException) -> str:
    """Return why a training ended: an error that users may meet, or the trace of one that they may not."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    shortage = describe_shortage(error)
    known = shortage or error if isinstance(error, AtrousError) or shortage else None
    return str(known) if known else "".join(traceback.format_exception(error)).rstrip()


def _finish_wandb(status: Status) -> None:
    """End the run of wandb, which Lightning's logger leaves open."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish(exit_code=0 if status == "success" else 1)


def require_trackers(names: Sequence[str]) -> None:
    """Check that the packages of some trackers are installed, without importing them.

    Raises:
        MachineError: One is missing.
    """
    for name in names:
        if not any(find_spec(package) for package in _PACKAGES[name]):
            raise MachineError(f"the tracker {name} is not installed", "pip install 'atrous[trackers]'")


def build_tracker(name: str, run: RunFolder) -> Logger:
    """Build one of Lightning's loggers.

    Args:
        name: tensorboard, mlflow or wandb.
        run: The run's folder; the tracker writes into a folder inside it.
    Raises:
        MachineError: The package is missing.
    """
    require_trackers([name])
    folder = run.tracker(name)
    try:
        if name == "tensorboard":
            from lightning.fabric.loggers.tensorboard import TensorBoardLogger

            return TensorBoardLogger(root_dir=folder.parent, name="", version=folder.name)
        if name == "mlflow":
            from lightning.pytorch.loggers.mlflow import MLFlowLogger

            return MLFlowLogger(experiment_name="atrous", run_name=run.path.name, tracking_uri=f"file:{folder}")
        from lightning.pytorch.loggers.wandb import WandbLogger

        return WandbLogger(project="atrous", name=run.path.name, save_dir=str(run.path), offline=True)
    except ModuleNotFoundError as error:
        raise MachineError(f"the tracker {name} is not installed: {error}", "pip install 'atrous[trackers]'") from error
