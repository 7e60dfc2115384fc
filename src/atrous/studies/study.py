"""What a study is: rows over a common base, the paper's numbers and orderings, and what measured scores say of them.

Nothing is trained here; `reproduction.py` does that, `cost.py` counts what it costs.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from atrous.config.load import LoadedConfig, load_config
from atrous.core.errors import UsageError
from atrous.networks.rates import RATE_STRIDE

PAPER_BATCH = 16
PAPER_RATES = (6, 12, 18)
WIDEST_RATE = 24
"""The largest rate in the paper's tables, in cells at output stride 16."""
PLAIN_GRID, BEST_GRID = (1, 1, 1), (1, 2, 4)
CROP_STEP_PX = 32
_DEEPER = {
    "lite0": "lite1",
    "lite1": "lite2",
    "resnet18": "resnet34",
    "resnet34": "resnet50",
    "resnet50": "resnet101",
    "resnet101": "resnet152",
}
_MULTI_GRID_BACKBONE = re.compile(r"resnet(34|50|101|152)")
"""Backbones with three units in the last block, as a multi-grid asks for."""


@dataclass(frozen=True)
class Base:
    """What all rows of a study share; its defaults suit two cores of a CPU.

    Args:
        data: What `atrous train` takes.
        data_root: Folder in which registered data sets are looked for.
        backbone: The second half of a model's name.
        weights: Where the weights start: imagenet, none, or a file.
        iterations: Optimiser steps of every training.
        batch: Images in a step where the paper has 16.
        crop: Side of the training crop in pixels where the paper has 513.
    """

    data: str = "shapes"
    data_root: str | None = None
    backbone: str = "lite0"
    weights: str = "imagenet"
    iterations: int = 300
    batch: int = 8
    crop: int = 257

    @property
    def deeper(self) -> str:
        """The next deeper backbone of its kind; itself where there is none."""
        return _DEEPER.get(self.backbone, self.backbone)

    @property
    def has_multi_grid(self) -> bool:
        """Whether the backbone's last block has the three units that a multi-grid sets."""
        return _MULTI_GRID_BACKBONE.fullmatch(self.backbone) is not None

    def fit_rates(self, *printed: int) -> list[int]:
        """Return the paper's rates, made smaller on crops where the widest of its tables would have no cell.

        A rate says something only beside the cells that it reaches over. A crop of 385 is the smallest on which rate 24
        meets another cell; below it all rates shrink with the crop, and stay even so that they are whole at stride 32.
        """
        share = min(1.0, (self.crop - 1) / (WIDEST_RATE * RATE_STRIDE))
        return [max(2, 2 * round(rate * share / 2)) if share < 1 else rate for rate in printed]

    def fit_batch(self, printed: int) -> int:
        """Return a batch that is to this base's as a printed one is to the paper's 16."""
        return max(1, round(self.batch * printed / PAPER_BATCH))

    def build_cascade(
        self, extra_blocks: int, grid: tuple[int, ...] = PLAIN_GRID, *, backbone: str = ""
    ) -> dict[str, Any]:
        """Return the settings of a cascade that ends in block 4 + `extra_blocks`, with unit rates `grid` in each."""
        name = f"deeplabv3-cascade-{backbone or self.backbone}"
        return {"model.name": name, "model.extra_blocks": extra_blocks, **_set_grid(grid)}

    def build_aspp(
        self,
        grid: tuple[int, ...] | None = None,
        *,
        rates: Sequence[int] = PAPER_RATES,
        image_features: bool = True,
    ) -> dict[str, Any]:
        """Return the settings of DeepLabv3's ASPP; by default of the paper's best, with three rates and image pooling.

        Args:
            grid: Multi-grid; where left out the best one, (1, 2, 4), of backbones that can have one.
            rates: As printed, for output stride 16.
            image_features: Whether the image-level branch is there.
        """
        head = {"rates": self.fit_rates(*rates), "image_features": image_features}
        chosen = grid or (BEST_GRID if self.has_multi_grid else PLAIN_GRID)
        return {"model.name": f"deeplabv3-{self.backbone}", "model.head": head, **_set_grid(chosen)}

    def load(self, settings: Mapping[str, Any], *, seed: int = 0, folder: str | None = None) -> LoadedConfig:
        """Return the checked configuration of one training.

        Raises:
            ConfigError: The settings are unknown or cannot be together.
        """
        shapes = {"data.options": {"size": self.crop}, "training.scale_range": [0.7, 1.4]}
        return load_config(
            options={
                "data.source": self.data,
                "data.root": self.data_root,
                "model.weights": self.weights,
                "training.iterations": self.iterations,
                "training.batch": self.batch,
                "training.crop": self.crop,
                "output.folder": folder,
            },
            settings={
                **(shapes if self.data == "shapes" else {}),
                "training.ema_decay": 0.97,
                "training.validations": 1,  # the last step is scored: no step is chosen on the images that count
                **settings,
                "training.seed": seed,
            },
        )


def _set_grid(grid: tuple[int, ...]) -> dict[str, Any]:
    """Leave the plain grid out, which every backbone has."""
    return {} if grid == PLAIN_GRID else {"model.multi_grid": list(grid)}


@dataclass(frozen=True)
class Row:
    """A line of a table: a training and the protocol under which it is scored.

    Args:
        label: What the row is called, unique in its study.
        settings: Settings by dotted key, over the base. Rows with equal settings share one training.
        inference: Options of `atrous.evaluate`; none for the protocol of the build.
        paper_miou: The paper's mIoU in percent, or None.
    """

    label: str
    settings: Mapping[str, Any]
    inference: Mapping[str, Any] = field(default_factory=dict)
    paper_miou: float | None = None


@dataclass(frozen=True)
class Claim:
    """An ordering that the paper reports.

    Args:
        sentence: What is claimed.
        better: Label of the row that scores higher.
        worse: Label of the other row.
    """

    sentence: str
    better: str
    worse: str


@dataclass(frozen=True)
class Study:
    """One of the paper's tables, or a comparison in its manner.

    Args:
        name: As `atrous reproduce` takes it.
        title: What is compared.
        protocol: How the paper did it, in a sentence.
        rows: The lines, in the paper's order.
        claims: The paper's orderings.
        notes: What differs here.
    """

    name: str
    title: str
    protocol: str
    rows: tuple[Row, ...]
    claims: tuple[Claim, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse labels that stand twice or are not there."""
        labels = [row.label for row in self.rows]
        if len(set(labels)) < len(labels):
            raise ValueError(f"{self.name}: a label stands twice in {labels}")
        for claim in self.claims:
            for label in (claim.better, claim.worse):
                if label not in labels:
                    raise ValueError(f"{self.name}: a claim names {label!r}, which is no row")


@dataclass(frozen=True)
class Verdict:
    """What scores say of a claim.

    Args:
        word: holds, contradicted, or undecided.
        difference: Mean of better - worse over the seeds that both have; None without one.
        standard_error: Of that mean; None with fewer than two seeds.
        reason: Why it is undecided, else empty.
    """

    word: Literal["holds", "contradicted", "undecided"]
    difference: float | None
    standard_error: float | None
    reason: str = ""


def judge_claim(better: Mapping[int, float], worse: Mapping[int, float]) -> Verdict:
    """Say whether one row scores higher than another, beyond what seeds alone do.

    Args:
        better: mIoU by seed of the row that is said to score higher.
        worse: mIoU by seed of the other row.
    Returns:
        "holds" where the mean of the paired differences lies more than two of its standard errors above zero,
        "contradicted" where it lies so far below, else "undecided".
    """
    differences = [better[seed] - worse[seed] for seed in better if seed in worse]
    if len(differences) < 2:
        reason = "one seed" if differences else "not measured"
        return Verdict("undecided", differences[0] if differences else None, None, reason)
    mean, error = statistics.mean(differences), compute_standard_error(differences)
    if abs(mean) <= 2 * (error or 0.0):
        return Verdict("undecided", mean, error, "within two standard errors")
    return Verdict("holds" if mean > 0 else "contradicted", mean, error)


def compute_standard_error(values: Sequence[float]) -> float | None:
    """Return the standard error of the mean, s / sqrt(n); None below two values."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def compute_hash(value: Any) -> str:
    """Return eight hexadecimal digits that stand for a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def name_training(loaded: LoadedConfig) -> str:
    """Return a name that stands for all settings of a training but its seed and the places of its files."""
    settings = loaded.config.model_dump(mode="json", exclude={"output": True, "training": {"seed"}, "data": {"root"}})
    name = loaded.config.model.name.replace("/", "-")
    return f"{name}-{compute_hash(settings)}-seed{loaded.config.training.seed}"


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read seeds separated by commas, such as "0,1,2".

    Raises:
        UsageError: Not whole numbers from 0 up, or one stands twice.
    """
    words = [word.strip() for word in text.split(",")]
    seeds = tuple(int(word) for word in words if word.isascii() and word.isdecimal())
    if len(seeds) < len(words) or len(set(seeds)) < len(seeds):
        raise UsageError(f"--seeds got {text!r}", "Write different whole numbers separated by commas, such as 0,1,2.")
    return seeds
