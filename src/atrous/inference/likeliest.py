"""The last step from scores to labels: which class is the likeliest at each pixel."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor


@cache
def load_compiled() -> Callable[..., None] | None:
    """Return `compiled.label_map`, or None where numba is not installed or does not work here.

    The import takes longer than many pictures, and is therefore put off until the first one is labelled.
    """
    if importlib.util.find_spec("numba") is None:
        return None
    try:
        from atrous.inference.compiled import label_map
    except (ImportError, RuntimeError):  # numpy is newer than numba allows, or there is no place for compiled code
        return None
    return label_map


def name_last_stage(device: torch.device) -> str:
    """Return what finds the labels in the logits of one look at a picture: "numba" or "torch"."""
    return "numba" if device.type == "cpu" and load_compiled() is not None else "torch"


def find_likeliest(scores: Tensor) -> Tensor:
    """Return the index of the largest score of each pixel, the first of equal ones.

    On a CPU torch's own argmax works one number at a time where the classes are not the last dimension. Two largest
    values, of the scores and of the bytes that say which classes reach the first, are several times as fast.

    Shapes:
        in (K, R, W) floats; out (R, W) uint8 up to 255 classes, else int64.
    """
    num_classes = len(scores)
    if scores.device.type != "cpu" or num_classes > 255:
        return scores.argmax(dim=0)
    ranks = torch.arange(num_classes, 0, -1, dtype=torch.uint8)[:, None, None]  # K for the first class, 1 for the last
    reached = (scores == scores.amax(dim=0)).view(torch.uint8).mul_(ranks).amax(dim=0)
    return num_classes - reached.clamp_(min=1)  # scores that are no numbers reach nothing
