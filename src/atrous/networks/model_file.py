"""A model as one file: tensors, with everything that predictions need in the metadata. Never pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from atrous.core.errors import AtrousError, ModelFileError, UsageError
from atrous.core.files import atomic_path
from atrous.core.inputs import PHOTO, ImageForm, InputSpec
from atrous.core.labels import LabelSpace, name_unnamed
from atrous.core.provenance import collect_versions
from atrous.core.seal import SEAL_KEY, draw_seal, require_sealed, seal_files
from atrous.core.words import describe_count
from atrous.networks.build import build_network_from
from atrous.networks.model_card import FORMAT, FORMAT_VERSION, ModelCard, describe_saving, parse_card, read_metadata
from atrous.networks.model_source import find_model
from atrous.networks.published import (
    TORCHVISION_DATA,
    TORCHVISION_MODELS,
    convert_torchvision,
    fetch_torchvision_model,
    recognise_torchvision,
)
from atrous.networks.segmenter import Segmenter
from atrous.networks.weights import load_fitting, load_state, require_finite


def save_model(path: Path, network: Segmenter, card: ModelCard, state: Mapping[str, Tensor] | None = None) -> None:
    """Write a network's tensors and its card to one .safetensors file, atomically.

    Args:
        path: The file.
        network: Whose tensors are written.
        card: What predictions need besides the tensors.
        state: Tensors to write instead of the network's own, such as averaged ones.
    """
    tensors = network.state_dict() if state is None else state
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    metadata = {"format": FORMAT, "format_version": str(FORMAT_VERSION), "card": json.dumps(card.to_json())}
    seal = draw_seal()
    with atomic_path(path) as temporary:
        save_file(plain, temporary, metadata=metadata | {SEAL_KEY: seal})
        seal_files([temporary], seal)


def load_model(path: Path) -> tuple[Segmenter, ModelCard]:
    """Open a model: a run folder, a .safetensors file of ours, torchvision's DeepLabv3 state dict (.pth), or its name.

    Args:
        path: A file or folder; or torchvision/<name>, whose published weights are downloaded once.
    Raises:
        ModelFileError: No such file, damaged, of another kind, or written by a later version; or a weight is not
            finite.
        MachineError: The download failed.
    """
    path = find_model(path)
    if not path.exists():
        return _load_published(path.as_posix())
    if path.suffix != ".safetensors":
        return _load_torchvision(path)
    metadata = read_metadata(path)
    card = parse_card(path, metadata)
    require_sealed([path], metadata.get(SEAL_KEY))
    network = _build(card.model, card.label_space.num_classes, path, _read_input(card, path))
    for name, values in card.normalisation.items():  # the file decides, not today's defaults
        network.get_buffer(name).copy_(torch.tensor(values).view(1, -1, 1, 1))
    _load_exactly(network, load_state(path), path)
    network.data_terms = card.data_terms
    if card.output_stride is not None:
        try:
            network.output_stride = card.output_stride
        except AtrousError as error:
            raise ModelFileError(f"{path}: {error.message}", error.hint) from error
    return network, card


def _read_input(card: ModelCard, path: Path) -> InputSpec | None:
    """Return the images that the network of a file takes; None for those of its backbone's published weights."""
    if card.input_form is None:
        return None
    try:
        return InputSpec(tuple(card.normalisation["mean"]), tuple(card.normalisation["std"]), card.input_form)
    except (KeyError, ValueError) as error:
        raise ModelFileError(f"{path}: its description is damaged: {error}", "Fetch the file again.") from error


def _build(model: dict[str, Any], num_classes: int, path: Path, input_spec: InputSpec | None = None) -> Segmenter:
    """Build the network of a file; the caller's random numbers are not used for weights that are replaced anyway."""
    try:
        with torch.random.fork_rng(devices=()):
            return build_network_from(model, num_classes, input_spec)
    except AtrousError as error:
        raise ModelFileError(f"{path}: its network cannot be built: {error.message}", error.hint) from error


def _load_exactly(network: Segmenter, state: Mapping[str, Tensor], path: Path) -> None:
    require_finite(state, str(path))
    report = load_fitting(network, state)
    wrong = [*report.new, *report.unused]
    if wrong:
        raise ModelFileError(
            f"{path}: does not fit its own description in {describe_count(len(wrong), 'tensor')}, first {wrong[0]}",
            "Fetch it again.",
        )


def describe_network_card(network: Segmenter, label_space: LabelSpace) -> ModelCard:
    """Return the card of a network that no training of atrous has made, as it is now.

    Args:
        network: The network.
        label_space: Its classes.
    Raises:
        UsageError: It is on the meta device.
    """
    if any(tensor.is_meta for tensor in network.state_dict().values()):
        raise UsageError(
            "the network is on the meta device, where tensors have no values", "Build it on a real device."
        )
    statistics = {name: network.get_buffer(name).flatten().tolist() for name in ("mean", "std")}
    return ModelCard(
        model=dict(network.settings or {}),
        label_space=label_space,
        normalisation=statistics,
        size_rule=network.size_rule.describe(),
        versions=collect_versions(),
        output_stride=network.output_stride,
        input_form=find_input_form(network),
        data_terms=network.data_terms,
    )


def find_input_form(network: Segmenter) -> ImageForm | None:
    """Return how files become images of a network, as a card has it: None for RGB of 8 bits."""
    form = network.backbone.input_spec.form
    return None if form == PHOTO else form


def require_as_built(network: Segmenter) -> None:
    """Refuse a network that a file could not describe: one whose modules are not those that its settings build.

    Raises:
        UsageError: It was not made by `atrous.build`, or modules were replaced afterwards.
    """
    hint = "Keep its weights with torch.save(network.state_dict(), path), and build it the same way to load them."
    if network.settings is None:
        raise UsageError("the network was not made by atrous.build, so a file cannot describe it", hint)
    with torch.device("meta"):  # only modules and shapes are looked at
        built = build_network_from(network.settings, network.num_classes, network.input_spec)
    own_parts, built_parts = _list_parts(network), _list_parts(built)
    changed = next(
        (name for name in {**built_parts, **own_parts} if own_parts.get(name) != built_parts.get(name)), None
    )
    if changed is not None:
        kinds = (parts.get(changed, "missing") for parts in (own_parts, built_parts))
        raise UsageError(f"{changed} is not as {network.settings['name']} has it: {' instead of '.join(kinds)}", hint)


def _list_parts(network: nn.Module) -> dict[str, str]:
    """Return the kind of each module and the shape of each tensor, by name."""
    modules = {name: type(module).__qualname__ for name, module in network.named_modules()}
    return modules | {name: f"a tensor {tuple(tensor.shape)}" for name, tensor in network.state_dict().items()}


def _load_published(name: str) -> tuple[Segmenter, ModelCard]:
    path, label_space = fetch_torchvision_model(name)
    network, card = _load_torchvision(path)
    return network, replace(card, label_space=label_space, data=TORCHVISION_DATA)


def _load_torchvision(path: Path) -> tuple[Segmenter, ModelCard]:
    state = load_state(path)
    name = recognise_torchvision(state)
    if name is None:
        raise ModelFileError(
            f"{path}: holds tensors alone, so their network and its classes are not known",
            f"{describe_saving(path)} Only state dicts of {', '.join(TORCHVISION_MODELS)} are recognised.",
        )
    num_classes = state["classifier.4.weight"].shape[0]
    model = {**TORCHVISION_MODELS[name], "auxiliary": any(key.startswith("aux_classifier.") for key in state)}
    network = _build(model, num_classes, path)
    _load_exactly(network, convert_torchvision(state), path)
    names = tuple(map(name_unnamed, range(num_classes)))
    return network, ModelCard(model=model, label_space=LabelSpace(names), data="unknown (torchvision state dict)")
