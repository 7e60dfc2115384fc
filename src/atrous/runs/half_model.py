"""A model file of half the size: weights in half precision, with the score that these rounded weights have."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from atrous.core.errors import AtrousError, ModelFileError, UsageError
from atrous.core.files import atomic_path
from atrous.core.output_folder import require_place, require_replaceable
from atrous.core.records import MessageCallback, Note, ProgressCallback, send_message
from atrous.exporting.parity import Parity, draw_images, measure_parity, require_parity
from atrous.inference.backends.folding import copy_network
from atrous.inference.engine import Engine
from atrous.inference.precision import computes_bf16
from atrous.model import Model
from atrous.networks.model_card import describe_scores, is_model_file
from atrous.networks.model_file import load_model, require_as_built, save_model
from atrous.networks.segmenter import Segmenter
from atrous.networks.weights import require_finite
from atrous.runs.scored_data import find_scored_data
from atrous.runs.scored_model import prepare_scoring
from atrous.scoring.count import count
from atrous.scoring.summarise import summarise

SUFFIX = ".safetensors"
SUFFIX_HALF = f"-half{SUFFIX}"
"""End of the name of a file that is not named."""
_LARGEST = torch.finfo(torch.float16).max
_NO_SCORES: dict[str, Any] = {
    "score": None,
    "protocol": None,
    "scored_data": "",
    "num_scored": None,
    "class_iou": (),
    "score_bf16": None,
}
"""The fields of a card that tell how weights scored, of weights that were not scored. What was chosen on the validation
images, such as the temperature, stays."""


def require_half_place(path: Path, *, overwrite: bool) -> None:
    """Refuse a path at which the file cannot be written, or would replace anything but another one of its kind.

    Args:
        path: The file.
        overwrite: Whether to replace whatever exists.
    Raises:
        UsageError: The name has another suffix, there cannot be such a file, or a file would be lost, such as a model
            whose weights are not rounded.
        MachineError: There is no permission to write there, or no space.
    """
    if path.suffix != SUFFIX:
        raise UsageError(f"{path}: a model file ends in {SUFFIX}", f"`out={path.stem}{SUFFIX}`")
    require_place(path)
    require_replaceable([path], is_own=is_model_file(path) and _holds_half(path), overwrite=overwrite)


def _holds_half(path: Path) -> bool:
    try:
        with safe_open(path, framework="pt") as file:
            return any(file.get_slice(name).get_dtype() == "F16" for name in file.keys())
    except (SafetensorError, OSError):
        return False


def export_half_model(
    model: Model,
    path: Path,
    *,
    on_message: MessageCallback | None = None,
    progress: ProgressCallback | None = None,
) -> Parity:
    """Write a network as a model file with weights in float16, which computes in fp32 as any other does.

    The file is opened and compared with the network, and the opened network is scored on the validation data of its
    run, before the file gets its name; also in bf16 if the run was, and this CPU computes in it. The file never has the
    score of the weights before rounding: if those data are not here, it has none.

    Args:
        model: The network with its card, which is left as it is.
        path: The file.
        on_message: Receives messages about automatic choices, and that there is no score.
        progress: Receives the progress of scoring.
    Raises:
        UsageError: A file cannot describe the network.
        ModelFileError: A weight is not finite or beyond float16, or the file's output differs; no file is left.
        DataError: A file of the validation data cannot be read.
    """
    network = model.network
    require_as_built(network)
    state = round_weights(network)
    card = replace(model.card, output_stride=network.output_stride)
    with atomic_path(path) as temporary:
        save_model(temporary, network, replace(card, **_NO_SCORES), state)
        rounded = load_model(temporary)[0].eval()
        backend = Engine(rounded, device="cpu").open_backend(rounded.output_stride, "fp32")
        parity = measure_parity(copy_network(network).cpu().eval(), backend, draw_images(card.form))
        require_parity(parity, str(path), "fp16")
        scored = _score(Model(rounded, card, run=model.run), path, on_message, progress)
        save_model(temporary, network, replace(card, **(_NO_SCORES | scored)), state)
    return parity


def round_weights(network: Segmenter) -> dict[str, Tensor]:
    """Return the tensors of a network with those of two dimensions and more in float16.

    A weight changes by at most 1 part in 2,048, one below 6e-5 by at most 3e-8. Norms, biases and statistics have one
    dimension: they are a small part of the file, and statistics may exceed float16.

    Args:
        network: The network.
    Raises:
        ModelFileError: A number is not finite, or a weight is beyond the range of float16.
    """
    state = network.state_dict()
    require_finite(state, "the network")
    return {name: _round(name, tensor) for name, tensor in state.items()}


def _round(name: str, tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    if tensor.dim() < 2:
        return tensor.float()
    beyond = tensor[tensor.abs() > _LARGEST]
    if len(beyond):
        raise ModelFileError(
            f"{name}: the weight {float(beyond[0]):g} is beyond the range of float16, -{_LARGEST:,.0f} to "
            f"{_LARGEST:,.0f}",
            "Nothing was written. Pass on the model's own file, whose weights are in fp32.",
        )
    return tensor.half()


def _score(
    model: Model, path: Path, on_message: MessageCallback | None, progress: ProgressCallback | None
) -> dict[str, Any]:
    """Return the fields of a card that tell how a model scores on the validation data of its run, as validations did.

    Args:
        model: The model with the rounded weights; its card has the protocol of its validations.
        path: The final path of its file, for the message.
        on_message: Receives why there is no score, if the data are not here.
        progress: Receives the progress.
    """
    try:
        data = find_scored_data(None, model.run, model.label_space, None, on_message, model.card.form)
    except AtrousError as error:
        message = (
            f"the file has no score: {error.message}. To have one, export the run where its "
            f"validation data are; on other data: atrous eval {shlex.quote(str(path))} DATA"
        )
        send_message(on_message, Note("not-scored", message))
        return {}
    labeller, data, _ = prepare_scoring(model, data, None, on_message)
    counts = count(labeller, data, detailed=False, progress=progress)
    fields = describe_scores(summarise(counts, labeller, data=data.name)) | {"chosen": model.card.chosen}
    if model.card.score_bf16 is None or not computes_bf16("cpu"):
        return fields
    labeller, data, _ = prepare_scoring(model.reopen(precision="bf16"), data, None, None)
    counts = count(labeller, data, detailed=False, progress=progress)
    return fields | {"score_bf16": summarise(counts, labeller, data=data.name).miou}
