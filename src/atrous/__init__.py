"""Semantic segmentation around atrous convolution: build, load, check, train, evaluate, predict, export.

Importing the package loads nothing; each public name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from atrous.api import Model, Run, build, evaluate, export, load, predict, save, train
    from atrous.config.schema import Config
    from atrous.core.comparison import Comparison
    from atrous.core.errors import (
        AtrousError,
        ConfigError,
        DataError,
        MachineError,
        ModelFileError,
        TrainingDiverged,
        UsageError,
    )
    from atrous.core.findings import CheckResult, Finding
    from atrous.core.records import Scores
    from atrous.data.adapter import from_torch
    from atrous.inference.folders.prediction import Prediction
    from atrous.runs.check import check
    from atrous.runs.comparison import compare
    from atrous.runs.convert import convert

__version__ = "0.1.0"

__all__ = [
    "AtrousError",
    "CheckResult",
    "Comparison",
    "Config",
    "ConfigError",
    "DataError",
    "Finding",
    "MachineError",
    "Model",
    "ModelFileError",
    "Prediction",
    "Run",
    "Scores",
    "TrainingDiverged",
    "UsageError",
    "build",
    "check",
    "compare",
    "convert",
    "evaluate",
    "export",
    "from_torch",
    "load",
    "predict",
    "save",
    "train",
]

_HOMES = {
    "atrous.api": ("Model", "Run", "build", "evaluate", "export", "load", "predict", "save", "train"),
    "atrous.config.schema": ("Config",),
    "atrous.core.comparison": ("Comparison",),
    "atrous.core.errors": (
        "AtrousError",
        "ConfigError",
        "DataError",
        "MachineError",
        "ModelFileError",
        "TrainingDiverged",
        "UsageError",
    ),
    "atrous.core.findings": ("CheckResult", "Finding"),
    "atrous.core.records": ("Scores",),
    "atrous.data.adapter": ("from_torch",),
    "atrous.inference.folders.prediction": ("Prediction",),
    "atrous.runs.check": ("check",),
    "atrous.runs.comparison": ("compare",),
    "atrous.runs.convert": ("convert",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'atrous' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
