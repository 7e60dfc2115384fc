"""The default precision of predictions."""

from __future__ import annotations

import torch

from atrous.core.machine import find_cpu_features
from atrous.core.records import Note
from atrous.networks.model_card import ModelCard

MOST_MIOU_LOST = 0.001
"""The most mIoU that bf16 may lose on the validation data to become the default: a tenth of a percentage point."""


def computes_bf16(device_type: str) -> bool:
    """Return whether a device multiplies bf16 in hardware, which makes it the faster precision.

    Args:
        device_type: cpu, cuda or another type of PyTorch's devices.
    """
    if device_type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device_type == "cpu" and "avx512_bf16" in find_cpu_features()


def describe_slow_precision(precision: str, device_type: str) -> Note | None:
    """Return a note on bf16, chosen by name, on a CPU without instructions for it; else None.

    Args:
        precision: fp32, bf16 or another one.
        device_type: As for `computes_bf16`.
    """
    if precision != "bf16" or device_type != "cpu" or computes_bf16(device_type):
        return None
    message = "this CPU has no instructions for it (avx512_bf16): PyTorch takes several times as long as in fp32"
    return Note("bf16-slow", f"precision bf16: {message}")


def choose_precision(card: ModelCard, device_type: str) -> str:
    """Return bf16 if the device is faster in it and the model's validation score does not drop, else fp32.

    Args:
        card: The model's card, with its validation scores in fp32 and bf16.
        device_type: Type of the device that predicts.
    """
    is_verified = card.score is not None and card.score_bf16 is not None
    # A NaN score fails the comparison.
    is_as_good = is_verified and card.score - card.score_bf16 <= MOST_MIOU_LOST  # type: ignore[operator]
    return "bf16" if is_as_good and computes_bf16(device_type) else "fp32"
