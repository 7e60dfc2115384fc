"""metrics.json of a run: written when a training ends; read by later stages, studies and reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from atrous.core.errors import ModelFileError
from atrous.core.files import load_json, save_json
from atrous.core.records import Scores
from atrous.core.system_errors import describe_reason


def save_metrics(path: Path, metrics: dict[str, Any]) -> None:
    """Write metrics.json atomically.

    Args:
        path: The file.
        metrics: Scores in `Scores.to_json`'s form, with what else the run recorded.
    """
    save_json(path, metrics)


def load_metrics(path: Path) -> dict[str, Any]:
    """Read metrics.json.

    Raises:
        ModelFileError: The file is missing or damaged.
    """
    try:
        metrics = load_json(path)
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, error) from error
    if not isinstance(metrics, dict):
        raise _damaged(path, f"not an object but {type(metrics).__name__}")
    return metrics


def load_scores(path: Path) -> Scores:
    """Read the scores in metrics.json.

    Raises:
        ModelFileError: The file is missing or damaged, or holds no scores.
    """
    metrics = load_metrics(path)
    try:
        return Scores.from_json(metrics)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(path, error) from error


def is_finished(path: Path) -> bool:
    """Whether a training wrote its metrics.json after its last step; False if there is no such file.

    Raises:
        ModelFileError: The file is damaged.
    """
    if not path.is_file():
        return False
    metrics = load_metrics(path)
    try:
        return not metrics["training"]["interrupted"]
    except (KeyError, TypeError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, reason: object) -> ModelFileError:
    if isinstance(reason, OSError) and not isinstance(reason, FileNotFoundError):
        return ModelFileError(
            f"{path}: cannot be read: {describe_reason(reason)}", "Check the file and its permissions."
        )
    words = f"{type(reason).__name__}: {describe_reason(reason)}" if isinstance(reason, Exception) else str(reason)
    return ModelFileError(f"{path}: cannot be read: {words}", "Delete it and resume the run, which writes it again.")
