"""Names of the files in a run folder. Each format is read and written by its own module."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

CONFIG_NAME = "config.yaml"
METRICS_NAME = "metrics.json"
CURVE_NAME = "metrics.csv"
MODEL_NAME = "model.safetensors"
CHECKPOINT_NAME = "last.ckpt"
REPORT_NAME = "report.html"
LOG_NAME = "log.txt"
IMAGES_NAME = "images.json"
EXAMPLES_NAME = "examples"
BAD_BATCH_NAME = "bad_batch"
PREVIEW_NAME = "preview.png"
PROBE_NAME = "probe.png"
TRACKER_NAMES = ("tensorboard", "mlflow", "wandb")
_STAGE = re.compile(r"stage-([1-9][0-9]*)")


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run's files; none of them has to exist.

    Args:
        path: The run's folder.
    """

    path: Path

    @property
    def config(self) -> Path:
        """The resolved settings, YAML."""
        return self.path / CONFIG_NAME

    @property
    def metrics(self) -> Path:
        """Scores, protocol, versions and machine, JSON."""
        return self.path / METRICS_NAME

    @property
    def curve(self) -> Path:
        """One row per validation, CSV."""
        return self.path / CURVE_NAME

    @property
    def model(self) -> Path:
        """The best model."""
        return self.path / MODEL_NAME

    @property
    def checkpoint(self) -> Path:
        """What a resumed training continues from."""
        return self.path / CHECKPOINT_NAME

    @property
    def report(self) -> Path:
        """The report, one self-contained page."""
        return self.path / REPORT_NAME

    @property
    def log(self) -> Path:
        """Messages of the training, one per line."""
        return self.path / LOG_NAME

    @property
    def images(self) -> Path:
        """The images that the run trains on and those that it is scored on, by key, JSON."""
        return self.path / IMAGES_NAME

    @property
    def examples(self) -> Path:
        """Folder of example images with truth and prediction."""
        return self.path / EXAMPLES_NAME

    @property
    def bad_record(self) -> Path:
        """Step and files of the batch whose loss was not finite, JSON."""
        return self.path / BAD_BATCH_NAME / "batch.json"

    @property
    def bad_tensors(self) -> Path:
        """That batch itself, and the weights that it met."""
        return self.path / BAD_BATCH_NAME / "batch.pt"

    @property
    def bad_network(self) -> Path:
        """The network that it met, as a model file."""
        return self.path / BAD_BATCH_NAME / MODEL_NAME

    @property
    def preview(self) -> Path:
        """Augmented training images with their masks, before a training."""
        return self.path / PREVIEW_NAME

    @property
    def probe(self) -> Path:
        """What a probe learned of two images, before a training."""
        return self.path / PROBE_NAME

    @property
    def title(self) -> str:
        """The name that trackers show: the folder's, for a stage after that of the whole run."""
        path = self.path.absolute()
        return f"{path.parent.name}/{path.name}" if _STAGE.fullmatch(path.name) else path.name

    @property
    def is_run(self) -> bool:
        """Whether the folder holds a run."""
        return self.config.is_file()

    @property
    def has_begun(self) -> bool:
        """Whether the run has a checkpoint, in whichever stage."""
        return any(run.checkpoint.is_file() for run in (self, *self.iter_stages()))

    @property
    def has_results(self) -> bool:
        """Whether the run has anything that a training writes after its first checkpoint, in whichever stage."""
        results = [(run.metrics, run.curve, run.model, run.report, run.examples) for run in (self, *self.iter_stages())]
        return any(path.exists() for paths in results for path in paths)

    def list_existing(self) -> list[Path]:
        """Return the files of a training that exist, and its folders that hold something."""
        files = (self.config, self.images, self.metrics, self.curve, self.model, self.checkpoint, self.report, self.log)
        trackers = map(self.tracker, TRACKER_NAMES)
        folders = (self.examples, self.bad_record.parent, *trackers, *(stage.path for stage in self.iter_stages()))
        filled = (path for path in folders if path.exists() and not (path.is_dir() and not any(path.iterdir())))
        return [*(path for path in files if path.exists()), *filled]

    def tracker(self, name: str) -> Path:
        """Return the folder that a tracker writes into, see `TRACKER_NAMES`."""
        return self.path / name

    def stage(self, number: int) -> RunFolder:
        """Return the folder of an earlier stage, counted from 1."""
        return RunFolder(self.path / f"stage-{number}")

    def iter_stages(self) -> list[RunFolder]:
        """Return the folders of the earlier stages that exist, the latest first."""
        numbers = [int(match[1]) for path in self.path.glob("stage-*") if (match := _STAGE.fullmatch(path.name))]
        return [self.stage(number) for number in sorted(numbers, reverse=True)]

    def find_whole(self) -> RunFolder:
        """Return the run that this folder is an earlier stage of, or this one if it is none."""
        whole = RunFolder(self.path.parent)
        return whole if _STAGE.fullmatch(self.path.name) and whole.is_run else self
