"""The form of atrous convolutions in a graph: native, or rewritten as sums over taps; and the rule that says which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from atrous.core.errors import ConfigError
from atrous.core.machine import Kind
from atrous.core.registry import describe_choices

Form = Literal["native", "taps"]
"""How a graph has its atrous convolutions: as one operation each, or some of them as sums over taps."""
FORMS = ("auto", "native", "taps")
"""What may be asked for; auto is what the rule says of this machine."""
LEAST_GAIN = 1.2
"""Times as fast from which on a measured form counts as faster: repeated runs differ by up to a fifth."""


@dataclass(frozen=True)
class Rewriting:
    """Which convolutions of a graph are rewritten as sums over taps.

    Args:
        rate: Distance between taps in cells from which on they are, at least 2: that of atrous ones.
        channels: Channels of the input from which on they are.
    """

    rate: int = 2
    channels: int = 1

    def includes(self, rates: Sequence[int], channels: int) -> bool:
        """Return whether a convolution is rewritten.

        Args:
            rates: Distances between its taps in cells, vertical and horizontal.
            channels: Channels of its input.
        """
        return max(rates) >= self.rate and channels >= self.channels


FASTER: dict[tuple[Kind, str, str], Rewriting | None] = {
    ("amx", "onnxruntime", "fp32"): None,
    ("amx", "onnxruntime", "int8"): None,
    ("amx", "openvino", "bf16"): Rewriting(6, 2048),
    ("amx", "openvino", "fp32"): None,
    ("amx", "openvino", "int8"): Rewriting(24, 2048),
    ("avx2", "onnxruntime", "fp32"): None,
    ("avx2", "openvino", "fp32"): None,
}
"""Convolutions that are faster as sums over taps, by kind of CPU, runtime and precision, as all rows of them in
results/performance/atrous_graphs.csv, measured by `benchmarks/atrous_graphs.py`, two at least: a graph runs on maps of
any size. None if there are none. What is not measured is not rewritten. To add a kind of CPU, run that script there;
the test of this rule then names the entry that its rows ask for."""


def require_form(wanted: str) -> None:
    """Refuse what is not the name of a form.

    Raises:
        ConfigError: It is not.
    """
    if wanted not in FORMS:
        raise ConfigError(f"atrous: unknown form {wanted!r}", describe_choices(wanted, list(FORMS)))


def find_rewriting(wanted: str, *, runtime: str, precision: str, kind: Kind) -> Rewriting | None:
    """Return which convolutions of a graph are rewritten; None if all stay as they are.

    Args:
        wanted: auto, native or taps.
        runtime: The backend that runs the graph.
        precision: fp32, bf16 or int8.
        kind: The CPU that it runs on.
    Raises:
        ConfigError: Another form, or a runtime whose graphs have the native form alone.
    """
    require_form(wanted)
    if wanted == "taps" and runtime == "pt2":
        raise ConfigError("atrous: .pt2 files have the form native alone", "Use the format onnx or openvino.")
    if wanted == "taps":
        return Rewriting()
    return FASTER.get((kind, runtime, precision)) if wanted == "auto" else None
