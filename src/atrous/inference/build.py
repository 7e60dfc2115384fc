"""From a network and the evaluation's settings to a predictor. The only file here that knows the configuration."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

from atrous.config.options import read_options
from atrous.config.schema import EvaluationConfig
from atrous.core.errors import MachineError
from atrous.core.labels import LabelSpace
from atrous.core.records import Protocol
from atrous.inference import BACKENDS
from atrous.inference.crf import DenseCRF
from atrous.inference.predictor import Predictor
from atrous.networks.segmenter import Segmenter


def build_predictor(
    network: Segmenter,
    label_space: LabelSpace,
    evaluation: EvaluationConfig,
    device: str = "auto",
    *,
    say: Callable[[str], None] | None = None,
) -> Predictor:
    """Build a predictor around a network, which is left as it is.

    Args:
        network: The network; what it has learnt until a prediction counts in it.
        label_space: What its classes are.
        evaluation: How pictures become labels; the network's own output stride and fp32 where left open.
        device: auto, cpu, cuda, cuda:1, mps.
        say: Told in a sentence what was decided by itself.
    Raises:
        ConfigError: The network cannot have the output stride, or differs from the label space in its classes; or an
            option of DenseCRF that cannot be.
        MachineError: The device is not there.
    """
    protocol = Protocol(
        output_stride=evaluation.output_stride or network.output_stride,
        scales=evaluation.scales,
        flip=evaluation.flip,
        window=evaluation.window,
        precision="fp32" if evaluation.precision == "auto" else evaluation.precision,
        crf=read_crf_options(evaluation.crf),
    )
    rates = network.head.compute_rates(protocol.output_stride)
    if say is not None and rates and protocol.output_stride != network.build_stride:
        say(f"output stride {protocol.output_stride}: rates {', '.join(map(str, rates))}")
    backend = BACKENDS.load("torch")(
        network, device=find_device(device), output_stride=protocol.output_stride, precision=protocol.precision
    )
    return Predictor(backend, label_space, protocol, say=say)


def read_crf_options(given: bool | Mapping[str, Any]) -> dict[str, Any] | None:
    """Return every option of DenseCRF with its value, or None where none is wanted.

    Raises:
        ConfigError: An option that it does not have, or a value of another type.
    """
    if given is False:
        return None
    defaults = {
        parameter.name: parameter.default
        for parameter in inspect.signature(DenseCRF).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    return defaults | ({} if given is True else read_options(DenseCRF, given, "evaluation.crf"))


def find_device(name: str) -> torch.device:
    """Return a device by its name; auto is the first GPU, else the CPU.

    Raises:
        MachineError: There is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise MachineError(
            f"no device {name!r} here: {str(error).splitlines()[0]}", "Use device auto or cpu."
        ) from error
    return device
