"""Definition of a study: rows over a common base, the paper's numbers and orderings, and verdicts on them.

`reproduction.py` trains the rows of a study, and `cost.py` computes what they cost.
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
from atrous.core.seeds import MAX_SEED
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
RATES = {"training.optimizer": "sgd", "training.lr": 0.1, "training.head_lr_factor": 1.0}
"""The paper's optimizer, at a rate that suits a few hundred steps; clipping lets it be that high."""
_MULTI_GRID_BACKBONE = re.compile(r"resnet(34|50|101|152)")
"""Backbones whose last block has the three units that a multi-grid requires."""


@dataclass(frozen=True)
class Base:
    """Settings shared by all rows of a study. The defaults suit two CPU cores.

    Args:
        data: A data source, as in `atrous train`.
        data_root: Folder that is searched for registered data sets.
        backbone: Second part of a model name.
        weights: Initial weights: imagenet, none, or a file.
        iterations: Optimiser steps per training.
        batch: Images per step; replaces the paper's 16.
        crop: Side of the training crop in pixels; replaces the paper's 513.
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
        """The next deeper backbone of its kind, or the backbone itself if there is none."""
        return _DEEPER.get(self.backbone, self.backbone)

    @property
    def has_multi_grid(self) -> bool:
        """Whether the backbone's last block has the three units that a multi-grid requires."""
        return _MULTI_GRID_BACKBONE.fullmatch(self.backbone) is not None

    def fit_rates(self, *printed: int) -> list[int]:
        """Return the paper's rates, scaled down for crops too small for the largest of them.

        A crop of 385 pixels is the smallest on which a tap at rate 24 reaches another cell. On smaller crops all rates
        shrink in proportion to the crop. They stay even, so that they are whole numbers at output stride 32.

        Args:
            printed: Rates as printed in the paper, in cells at output stride 16.
        """
        share = min(1.0, (self.crop - 1) / (WIDEST_RATE * RATE_STRIDE))
        return [max(2, 2 * round(rate * share / 2)) if share < 1 else rate for rate in printed]

    def fit_batch(self, printed: int) -> int:
        """Scale a batch size of the paper by `batch` / 16, to at least 1."""
        return max(1, round(self.batch * printed / PAPER_BATCH))

    def build_cascade(
        self, extra_blocks: int, grid: tuple[int, ...] = PLAIN_GRID, *, backbone: str = ""
    ) -> dict[str, Any]:
        """Return the settings of a cascade that ends in block 4 + `extra_blocks`.

        Args:
            extra_blocks: Blocks after block4, 0 to 3.
            grid: Unit rates of each block (multi-grid).
            backbone: Default: the backbone of this base.
        """
        name = f"deeplabv3-cascade-{backbone or self.backbone}"
        return {"model.name": name, "model.extra_blocks": extra_blocks, **_set_grid(grid)}

    def build_aspp(
        self,
        grid: tuple[int, ...] | None = None,
        *,
        rates: Sequence[int] = PAPER_RATES,
        image_features: bool = True,
    ) -> dict[str, Any]:
        """Return the settings of DeepLabv3's ASPP. The defaults are the paper's best, three rates and image pooling.

        Args:
            grid: Multi-grid. Default: (1, 2, 4) if the backbone supports it.
            rates: As printed in the paper, for output stride 16.
            image_features: Whether to include the image-level branch.
        """
        head = {"rates": self.fit_rates(*rates), "image_features": image_features}
        chosen = grid or (BEST_GRID if self.has_multi_grid else PLAIN_GRID)
        return {"model.name": f"deeplabv3-{self.backbone}", "model.head": head, **_set_grid(chosen)}

    def load(self, settings: Mapping[str, Any], *, seed: int = 0, folder: str | None = None) -> LoadedConfig:
        """Return the validated configuration of one training.

        Args:
            settings: Settings of the row by dotted key; they override those of the base.
            seed: Seed of the training.
            folder: Run folder. Default: chosen by the training.
        Raises:
            ConfigError: A setting is unknown, or settings exclude each other.
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
                **RATES,
                "training.ema_decay": 0.97,
                "training.validations": 1,  # the last step is scored: none is selected on scored images
                **settings,
                "training.seed": seed,
            },
        )


def _set_grid(grid: tuple[int, ...]) -> dict[str, Any]:
    """Return the setting of a multi-grid; none for the plain grid, which every backbone has."""
    return {} if grid == PLAIN_GRID else {"model.multi_grid": list(grid)}


@dataclass(frozen=True)
class Row:
    """A row of a table: a training and the protocol it is scored under.

    Args:
        label: Name of the row, unique in its study.
        settings: Settings by dotted key; they override those of the base. Rows with equal settings share one training.
        inference: Options of `atrous.evaluate`. Default: none, the protocol of the training.
        paper_miou: The paper's mIoU in percent, or None.
    """

    label: str
    settings: Mapping[str, Any]
    inference: Mapping[str, Any] = field(default_factory=dict)
    paper_miou: float | None = None


@dataclass(frozen=True)
class Claim:
    """An ordering reported by the paper.

    Args:
        sentence: The claim as a sentence.
        better: Label of the row that scores higher.
        worse: Label of the other row.
    """

    sentence: str
    better: str
    worse: str


@dataclass(frozen=True)
class Study:
    """One of the paper's tables, or a comparison of the same form.

    Args:
        name: Name in `atrous reproduce`.
        title: The quantity or part that is compared.
        protocol: The paper's protocol, in one sentence.
        rows: The rows, in the paper's order.
        claims: The paper's orderings.
        notes: Differences from the paper.
    """

    name: str
    title: str
    protocol: str
    rows: tuple[Row, ...]
    claims: tuple[Claim, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Require that labels are unique and that claims name existing ones.

        Raises:
            ValueError: A label occurs twice, or a claim names a row that does not exist.
        """
        labels = [row.label for row in self.rows]
        if len(set(labels)) < len(labels):
            raise ValueError(f"{self.name}: labels are not unique: {labels}")
        for claim in self.claims:
            for label in (claim.better, claim.worse):
                if label not in labels:
                    raise ValueError(f"{self.name}: a claim names the row {label!r}, which does not exist")


@dataclass(frozen=True)
class Verdict:
    """The verdict of the measured scores on a claim.

    Args:
        word: holds, contradicted, or undecided.
        difference: Mean of better - worse over the seeds that both rows have; None without a common seed.
        standard_error: Standard error of that mean; None with fewer than two seeds.
        reason: Why the claim is undecided; otherwise empty.
    """

    word: Literal["holds", "contradicted", "undecided"]
    difference: float | None
    standard_error: float | None
    reason: str = ""


def judge_claim(better: Mapping[int, float], worse: Mapping[int, float]) -> Verdict:
    """Decide whether one row scores higher than another by more than the variation between seeds.

    Args:
        better: mIoU by seed of the row that the claim says scores higher.
        worse: mIoU by seed of the other row.
    Returns:
        "holds" if the mean of the paired differences is more than two standard errors above zero, "contradicted" if it
        is more than two below, and "undecided" otherwise.
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
    """Return the standard error of the mean, s / sqrt(n); None for fewer than two values."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def compute_hash(value: Any) -> str:
    """Return the first eight hexadecimal digits of the hash of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def name_training(loaded: LoadedConfig) -> str:
    """Return a folder name: a hash of all settings of a training except the paths of its files, and its seed."""
    settings = loaded.config.model_dump(mode="json", exclude={"output": True, "training": {"seed"}, "data": {"root"}})
    name = loaded.config.model.name.replace("/", "-")
    return f"{name}-{compute_hash(settings)}-seed{loaded.config.training.seed}"


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read seeds separated by commas, such as "0,1,2".

    Raises:
        UsageError: A value is not a whole number from 0 to the largest seed, or occurs twice.
    """
    words = [word.strip() for word in text.split(",")]
    seeds = tuple(int(word) for word in words if re.fullmatch("0*[0-9]{1,10}", word))
    if len(seeds) < len(words) or len(set(seeds)) < len(seeds) or max(seeds) > MAX_SEED:
        raise UsageError(
            f"`seeds` got {text!r}",
            f"Give distinct whole numbers separated by commas, such as 0,1,2, each at most {MAX_SEED}.",
        )
    return seeds
