"""From an engine and inference options to a labeller."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from atrous.config.options import read_options
from atrous.core.calibration import Chosen
from atrous.core.errors import ConfigError
from atrous.core.inference_options import InferenceOptions
from atrous.core.labels import LabelSpace
from atrous.core.records import MessageCallback, Protocol, send_message
from atrous.crf.dense import DenseCRF
from atrous.inference.engine import Engine
from atrous.inference.exported import ExportedFile
from atrous.inference.labelling.labeller import Labeller


def build_labeller(
    engine: Engine,
    label_space: LabelSpace,
    options: InferenceOptions,
    *,
    precision: str = "auto",
    chosen: Chosen | None = None,
    on_message: MessageCallback | None = None,
) -> Labeller:
    """Build what labels images.

    Args:
        engine: The network or exported file; for a network, each image is labelled with the weights of that moment.
        label_space: The classes.
        options: How images become labels.
        precision: fp32 or bf16; auto is fp32, or that of the exported file.
        chosen: The temperature of confidences and probabilities. Default: 1.
        on_message: Receives messages about automatic choices.
    Raises:
        ConfigError: The network and the label space differ in their number of classes, or an option is impossible with
            this network, file or backend.
        ModelFileError: The exported file cannot be opened, or the network cannot be converted.
    """
    protocol = resolve(options, engine, precision)
    if isinstance(engine.source, ExportedFile):
        _require_averages(engine.source, protocol)
    else:
        engine.source.require_output_stride(protocol.output_stride)
        rates = engine.source.head.compute_rates(protocol.output_stride)
        if rates and protocol.output_stride != engine.source.build_stride:
            send_message(on_message, f"output stride {protocol.output_stride}: rates {', '.join(map(str, rates))}")
        if engine.converts:
            send_message(on_message, f"converting the network for {engine.backend}")
    backend = engine.open_backend(protocol.output_stride, protocol.precision)
    source = engine.source
    form = source.card.form if isinstance(source, ExportedFile) else source.backbone.input_spec.form
    return Labeller(backend, label_space, protocol, form=form, chosen=chosen, on_message=on_message)


def resolve(options: InferenceOptions, engine: Engine, precision: str = "auto") -> Protocol:
    """Return the protocol that options mean for a network or an exported file, with a value for everything.

    Args:
        options: How images become labels.
        engine: What computes: its output stride, its own precision and its memory budget fill what is open.
        precision: fp32, bf16 or auto.
    Raises:
        ConfigError: An option that DenseCRF does not have, or a value of another type.
    """
    return Protocol(
        output_stride=engine.source.output_stride if options.output_stride is None else options.output_stride,
        scales=options.scales,
        flip=options.flip,
        window=None if options.window == "none" else options.window,
        precision=engine.own_precision if precision == "auto" else precision,
        crf=read_crf_options(options.crf),
        budget_mib=engine.budget_mib,
        backend=engine.backend,
    )


def _require_averages(file: ExportedFile, protocol: Protocol) -> None:
    """Refuse options that average probabilities, where a file gives labels alone."""
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
            "Export the model without `argmax=True`.",
        )


def read_crf_options(given: bool | Mapping[str, Any]) -> dict[str, Any] | None:
    """Return every option of DenseCRF with its value, or None if labels are not refined.

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
