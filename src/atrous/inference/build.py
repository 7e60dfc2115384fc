"""From a network and the evaluation's settings to a predictor. The only file here that knows the configuration."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from atrous.config.options import read_options
from atrous.config.schema import EvaluationConfig
from atrous.core.errors import ConfigError, MachineError
from atrous.core.labels import LabelSpace
from atrous.core.records import MessageCallback, Protocol
from atrous.core.registry import describe_choices
from atrous.crf.dense import DenseCRF
from atrous.inference import BACKENDS
from atrous.inference.contracts import Backend
from atrous.inference.converted import convert_network
from atrous.inference.exported import ExportedFile, choose_runtime
from atrous.inference.labelling.labeller import Predictor
from atrous.networks.segmenter import Segmenter

LIVE = ("torch", "compile")
"""Backends that run a living network as it is; the first one does unless another is asked for."""
GRAPH_RUNTIMES = ("openvino", "onnxruntime")
"""Backends that run it as a graph, into which it is converted first."""


def build_predictor(
    network: Segmenter | ExportedFile,
    label_space: LabelSpace,
    evaluation: EvaluationConfig,
    device: str = "auto",
    *,
    on_message: MessageCallback | None = None,
) -> Predictor:
    """Build a predictor around a network, which is left as it is.

    Args:
        network: The network, what it has learnt until a prediction counts in it, or with a backend of graphs until
            now; or an exported file.
        label_space: What its classes are.
        evaluation: How images become labels; the network's own output stride and fp32 where left open.
        device: auto, cpu, cuda, cuda:1, mps.
        on_message: Receives messages about automatic choices and findings.
    Raises:
        ConfigError: The network cannot have the output stride, or differs from the label space in its classes; or an
            option of DenseCRF that cannot be; or a backend that cannot run it.
        ModelFileError: An exported file cannot be opened.
        MachineError: The device or the backend is not there.
    """
    usual = network.graph.precision if isinstance(network, ExportedFile) else "fp32"
    protocol = Protocol(
        output_stride=evaluation.output_stride or network.output_stride,
        scales=evaluation.scales,
        flip=evaluation.flip,
        window=evaluation.window,
        precision=usual if evaluation.precision == "auto" else evaluation.precision,
        crf=read_crf_options(evaluation.crf),
    )
    if isinstance(network, ExportedFile):
        backend = _open_file(network, protocol, evaluation.backend, device)
        return Predictor(backend, label_space, protocol, on_message=on_message)
    rates = network.head.compute_rates(protocol.output_stride)
    if on_message is not None and rates and protocol.output_stride != network.build_stride:
        on_message(f"output stride {protocol.output_stride}: rates {', '.join(map(str, rates))}")
    return Predictor(
        _open_network(network, protocol, evaluation.backend, device, on_message),
        label_space,
        protocol,
        on_message=on_message,
    )


def _open_network(
    network: Segmenter, protocol: Protocol, wanted: str, device: str, on_message: MessageCallback | None
) -> Backend:
    """Return what runs a living network."""
    name = LIVE[0] if wanted == "auto" else wanted
    if name not in (*LIVE, *GRAPH_RUNTIMES):
        BACKENDS.require(name)
        raise ConfigError(
            f"backend {name!r} runs exported files, not a living network",
            describe_choices(name, ["auto", *LIVE, *GRAPH_RUNTIMES]),
        )
    runtime = BACKENDS.load(name)
    if protocol.precision not in runtime.precisions or protocol.precision == "int8":
        able = " and ".join(word for word in runtime.precisions if word != "int8")
        raise ConfigError(
            f"precision {protocol.precision}: a living network has {able} with {name!r}",
            "Choose another --precision or --backend; int8 is made by `atrous export --int8`.",
        )
    if name in LIVE:
        backend: Backend = runtime(
            network, device=find_device(device), output_stride=protocol.output_stride, precision=protocol.precision
        )
        return backend
    if on_message is not None:
        on_message(f"converting the network for {name}")
    graph = convert_network(network, protocol.output_stride)
    return graph.open(name, device=find_device(device, runtime.list_devices()), precision=protocol.precision)


def _open_file(file: ExportedFile, protocol: Protocol, wanted: str, device: str) -> Backend:
    """Return what runs an exported file, where that can follow the protocol."""
    runtime = choose_runtime(file.path, wanted)
    if protocol.output_stride != file.output_stride:
        raise ConfigError(
            f"output stride {protocol.output_stride}: {file.path} was exported at {file.output_stride}, which is fixed",
            f"Export the model again: --output-stride {protocol.output_stride}.",
        )
    if (protocol.precision == "int8") != (file.graph.precision == "int8"):
        raise ConfigError(
            f"precision {protocol.precision}: {file.path} computes in {file.graph.precision}",
            "Leave --precision out, or export the model again, with or without --int8.",
        )
    needs_logits = {
        "scales": protocol.scales != (1.0,),
        "flip": protocol.flip,
        "window": protocol.window is not None,
        "crf": protocol.crf is not None,
    }
    asked = [name for name, is_asked in needs_logits.items() if is_asked]
    if file.graph.output == "labels" and asked:
        raise ConfigError(
            f"{', '.join(asked)}: {file.path} gives labels alone, and nothing can be averaged",
            "Export the model without --argmax.",
        )
    chosen = find_device(device, BACKENDS.load(runtime).list_devices())
    return file.open(runtime, device=chosen, precision=protocol.precision)


def find_precisions(backend: str) -> tuple[str, ...]:
    """Return what a backend can compute in; auto is that of living networks.

    Raises:
        ConfigError: There is no such backend.
        MachineError: It is not installed.
    """
    precisions: tuple[str, ...] = BACKENDS.load(LIVE[0] if backend == "auto" else backend).precisions
    return precisions


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


def find_device(name: str, kinds: Sequence[str] = ()) -> torch.device:
    """Return a device by its name; auto is the first GPU, else the CPU.

    Args:
        name: auto, cpu, cuda, cuda:1, mps.
        kinds: Those that a backend has, the best first; all of PyTorch's where left out.

    Raises:
        MachineError: There is no such device, or the backend does not run on it.
    """
    if name == "auto":
        return torch.device(kinds[0] if kinds else "cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise MachineError(
            f"no device {name!r} here: {str(error).splitlines()[0]}", "Use device auto or cpu."
        ) from error
    if kinds and device.type not in kinds:
        raise MachineError(f"the backend does not run on {name!r} here", describe_choices(name, ["auto", *kinds]))
    return device
