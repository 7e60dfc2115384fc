"""The form of atrous convolutions in a graph: native, or rewritten as sums over taps; and the rule that says which."""

from __future__ import annotations

from typing import Literal

from atrous.core.errors import ConfigError
from atrous.core.machine import Kind
from atrous.core.registry import describe_choices

Form = Literal["native", "taps"]
"""How a graph has its atrous convolutions: as one operation each, or some of them as sums over taps."""
FORMS = ("auto", "native", "taps")
"""What may be asked for; auto is what the rule says of this machine."""
SMALLEST_RATE = 2
"""Rate from which on a convolution is atrous."""
LEAST_GAIN = 1.2
"""Times as fast from which on a measured form counts as faster: repeated runs differ by up to a fifth."""
FASTER_FROM: dict[tuple[Kind, str, str], int | None] = {
    ("avx2", "onnxruntime", "fp32"): None,
    ("avx2", "openvino", "fp32"): None,
}
"""Rate from which on sums over taps are faster, by kind of CPU, runtime and precision, as in all rows from there on of
results/performance/atrous_graphs.csv, measured by `benchmarks/atrous_graphs.py`; None if they are not at the largest.
What is not measured is not rewritten. To add a kind of CPU, run that script there; the test of this rule then names the
entry that its rows ask for."""


def require_form(wanted: str) -> None:
    """Refuse what is not the name of a form.

    Raises:
        ConfigError: It is not.
    """
    if wanted not in FORMS:
        raise ConfigError(f"atrous: unknown form {wanted!r}", describe_choices(wanted, list(FORMS)))


def find_rewritten_rate(wanted: str, *, runtime: str, precision: str, kind: Kind) -> int | None:
    """Return the rate from which on convolutions of a graph are rewritten; None if all stay as they are.

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
        return SMALLEST_RATE
    return FASTER_FROM.get((kind, runtime, precision)) if wanted == "auto" else None
