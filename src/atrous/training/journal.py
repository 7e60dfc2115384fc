"""What a run tells: progress, the log, a CSV row a validation, and trackers where asked for."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from lightning.fabric.loggers.logger import Logger

from atrous.core.errors import MachineError
from atrous.core.files import save_text
from atrous.core.records import MessageCallback, Progress, ProgressCallback

Row = dict[str, float | int | str | None]


class Journal:
    """Writes down what happens in a run's folder, and passes it on to whoever watches.

    Args:
        folder: The run's folder.
        trackers: Names of trackers beside the CSV: tensorboard, mlflow, wandb.
        on_message: Receives messages about automatic choices and findings.
        progress: Receives the progress.
        rows: Rows of the CSV that a resumed run starts with.
    Raises:
        MachineError: A tracker's package is missing.
    """

    def __init__(
        self,
        folder: Path,
        trackers: Sequence[str] = (),
        *,
        on_message: MessageCallback | None = None,
        progress: ProgressCallback | None = None,
        rows: Sequence[Row] = (),
    ) -> None:
        self.folder = folder
        self.rows: list[Row] = list(rows)
        self._on_message = on_message
        self._progress = progress
        self._trackers = [build_tracker(name, folder) for name in trackers]

    def log(self, text: str) -> None:
        """Pass on a sentence and keep it in log.txt."""
        with (self.folder / "log.txt").open("a", encoding="utf-8") as file:
            file.write(text + "\n")
        if self._on_message is not None:
            self._on_message(text)

    def show(self, stage: str, done: int, total: int | None, note: str = "") -> None:
        """Pass on where the work stands."""
        if self._progress is not None:
            self._progress(Progress(stage, done, total, note))

    def watch(self, stage: str) -> ProgressCallback:
        """Return a progress function that passes on under another stage's name."""
        return lambda at: self.show(stage, at.done, at.total, at.note)

    def track(self, values: Mapping[str, float], step: int) -> None:
        """Send values to the trackers."""
        for tracker in self._trackers:
            tracker.log_metrics(dict(values), step)

    def add_row(self, row: Row) -> None:
        """Add a row to metrics.csv, which is written anew as a whole."""
        self.rows.append(row)
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(row))
        writer.writeheader()
        writer.writerows(self.rows)
        save_text(self.folder / "metrics.csv", text.getvalue())
        self.track({k: v for k, v in row.items() if isinstance(v, int | float)}, int(row["step"] or 0))

    def close(self, status: str) -> None:
        """End the trackers."""
        for tracker in self._trackers:
            tracker.finalize(status)


def build_tracker(name: str, folder: Path) -> Logger:
    """Build one of Lightning's loggers, writing below the run's folder.

    Raises:
        MachineError: Its package is missing.
    """
    try:
        if name == "tensorboard":
            from lightning.fabric.loggers.tensorboard import TensorBoardLogger

            return TensorBoardLogger(root_dir=folder, name="", version="tensorboard")
        if name == "mlflow":
            from lightning.pytorch.loggers.mlflow import MLFlowLogger

            return MLFlowLogger(
                experiment_name="atrous", run_name=folder.name, tracking_uri=f"file:{folder / 'mlflow'}"
            )
        from lightning.pytorch.loggers.wandb import WandbLogger

        return WandbLogger(project="atrous", name=folder.name, save_dir=str(folder), offline=True)
    except ModuleNotFoundError as error:
        raise MachineError(f"the tracker {name} is not installed: {error}", "pip install 'atrous[trackers]'") from error
