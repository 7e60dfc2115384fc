"""The arithmetic of predictions where nobody names one: what the machine gains by, if the model is known to bear it."""

from __future__ import annotations

import torch

from atrous.networks.model_file import ModelCard

MOST_MIOU_LOST = 0.001
"""What bf16 may cost on the validation data, a tenth of a point, and still be taken unasked."""


def computes_bf16(device_type: str) -> bool:
    """Whether the machine multiplies in bf16, and so gains by it."""
    if device_type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device_type == "cpu" and bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


def choose_precision(card: ModelCard, device_type: str) -> str:
    """Return bf16 where the machine gains by it and the model's score in it is known to be as good, else fp32."""
    is_verified = card.score is not None and card.score_bf16 is not None
    # Written so that a score that is no number is refused too.
    bears = is_verified and card.score - card.score_bf16 <= MOST_MIOU_LOST  # type: ignore[operator]
    return "bf16" if bears and computes_bf16(device_type) else "fp32"
