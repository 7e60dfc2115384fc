"""A model as one file: tensors, with everything that predictions need in the metadata. Never pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from atrous.core.arguments import require_field_types
from atrous.core.calibration import Chosen
from atrous.core.errors import AtrousError, ModelFileError, UsageError
from atrous.core.files import atomic_path
from atrous.core.inputs import PHOTO, ImageForm, InputSpec
from atrous.core.labels import LabelSpace, name_unnamed
from atrous.core.provenance import collect_versions
from atrous.core.records import Protocol, Scores
from atrous.core.seal import SEAL_KEY, draw_seal, require_sealed, seal_files
from atrous.core.system_errors import describe_reason, raise_shortage
from atrous.core.words import describe_count
from atrous.networks.build import build_network_from
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

FORMAT = "atrous-model"
FORMAT_VERSION = 2


@dataclass(frozen=True)
class ModelCard:
    """What a model file holds besides the tensors.

    Args:
        model: The network's settings, the build stride among them.
        label_space: Classes, ids, colours.
        normalisation: Mean and standard deviation of each band that the network applies to values in [0, 1].
        input_form: How files become images of the network. None: RGB of 8 bits.
        data_terms: Terms of use of the data that it was trained on, and of those of the model that it started from.
        chosen: What was chosen on the validation images besides the weights.
        num_images: Images that it was trained on; None if not known.
        scored_data: Name of the data that the score was measured on.
        num_scored: Images of it; None if not known.
        class_iou: The IoU of each class in the same measurement, in [0, 1], None for a class that does not occur;
            empty if not known.
        size_rule: How images are padded, as text.
        score: mIoU on the validation data, or None.
        protocol: How that score was measured.
        data: Name of the data it was trained on.
        recipe_sha256: Hash of the settings of the run.
        versions: Versions of the software that wrote the file.
        score_bf16: mIoU in bf16 on the same data, or None if not measured.
        output_stride: What the network is set to when the file is opened. Default: that of the build.
    """

    model: dict[str, Any]
    label_space: LabelSpace
    normalisation: dict[str, list[float]] = field(default_factory=dict)
    size_rule: str = ""
    score: float | None = None
    protocol: dict[str, Any] | None = None
    data: str = ""
    recipe_sha256: str = ""
    versions: dict[str, Any] = field(default_factory=dict)
    score_bf16: float | None = None
    output_stride: int | None = None
    input_form: ImageForm | None = None
    data_terms: tuple[str, ...] = ()
    chosen: Chosen = field(default_factory=Chosen)
    num_images: int | None = None
    scored_data: str = ""
    num_scored: int | None = None
    class_iou: tuple[float | None, ...] = ()

    @property
    def form(self) -> ImageForm:
        """How files become images of the network."""
        return self.input_form or PHOTO

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return asdict(self) | {"label_space": self.label_space.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ModelCard:
        """Build a card; unknown fields of later versions are ignored.

        Raises:
            ValueError: A value has another type, the normalisation is not a number per band each for mean and std, or
                the scores of classes are not one each.
        """
        known = {name: value[name] for name in cls.__dataclass_fields__ if name in value}
        if known.get("input_form") is not None:
            known["input_form"] = ImageForm.from_json(known["input_form"])
        if "chosen" in known:
            known["chosen"] = Chosen.from_json(known["chosen"])
        known["label_space"] = LabelSpace.from_json(value["label_space"])
        require_field_types(cls, known)
        card = cls(**(known | {name: tuple(known.get(name, ())) for name in ("data_terms", "class_iou")}))
        if card.protocol:
            Protocol.from_json(card.protocol)
        if len(card.class_iou) not in (0, card.label_space.num_classes):
            raise ValueError(f"class_iou: {card.class_iou!r}")
        for name, values in card.normalisation.items():
            if name not in ("mean", "std") or len([float(number) for number in values]) != card.form.channels:
                raise ValueError(f"normalisation.{name}: {values!r}")
        return card


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
    metadata = _read_metadata(path)
    card = _parse_card(path, metadata)
    require_sealed([path], metadata.get(SEAL_KEY))
    network = _build(card.model, card.label_space.num_classes, path, _read_input(card, path))
    for name, values in card.normalisation.items():  # the file decides, not today's defaults
        network.get_buffer(name).copy_(torch.tensor(values).view(1, -1, 1, 1))
    _load_exactly(network, load_state(path), path)
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


def read_card(path: Path) -> ModelCard:
    """Read the metadata of a model file without its tensors.

    Raises:
        ModelFileError: No such file, damaged, of another kind, or written by a later version.
    """
    return _parse_card(path, _read_metadata(path))


def _read_metadata(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise ModelFileError(f"{path}: no such file", "Give a run folder, a .safetensors or a .pth file.")
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise_shortage(error, path)
        raise ModelFileError(
            f"{path}: cannot be read: {describe_reason(error)}", "The file is damaged or not a .safetensors file."
        ) from error


def _parse_card(path: Path, metadata: Mapping[str, str]) -> ModelCard:
    if metadata.get("format") != FORMAT:
        raise ModelFileError(
            f"{path}: was not written by atrous, so its network and its classes are not known", _describe_saving(path)
        )
    try:
        if int(metadata["format_version"]) > FORMAT_VERSION:
            raise ModelFileError(
                f"{path}: has format {metadata['format_version']}; this atrous reads up to {FORMAT_VERSION}",
                "Update atrous.",
            )
        card = ModelCard.from_json(json.loads(metadata["card"]))
        return _translate_first_version(card) if int(metadata["format_version"]) == 1 else card
    except ModelFileError:
        raise
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path}: its description is damaged: {error}", "Fetch the file again.") from error


def is_model_file(path: Path) -> bool:
    """Return whether a file is a model that atrous wrote."""
    try:
        read_card(path)
    except ModelFileError:
        return False
    return True


def _translate_first_version(card: ModelCard) -> ModelCard:
    """Return a card of format 1 in the terms of format 2: `image_pooling` "picture" is now "image"."""
    pooling = card.model.get("image_pooling")
    return replace(card, model=card.model | {"image_pooling": "image" if pooling == "picture" else pooling})


def _load_exactly(network: Segmenter, state: Mapping[str, Tensor], path: Path) -> None:
    require_finite(state, str(path))
    report = load_fitting(network, state)
    wrong = [*report.new, *report.unused]
    if wrong:
        raise ModelFileError(
            f"{path}: does not fit its own description in {describe_count(len(wrong), 'tensor')}, first {wrong[0]}",
            "Fetch it again.",
        )


def _describe_saving(path: Path) -> str:
    return (
        "Make a model of them, once, in Python: "
        f"atrous.save(atrous.build(NAME, classes=[...], weights={str(path)!r}), 'model.safetensors'). "
        "They can also start a training, as `weights`."
    )


def describe_scores(scores: Scores) -> dict[str, Any]:
    """Return the fields of a card that tell how the file's weights scored."""
    return {
        "score": scores.miou,
        "protocol": scores.protocol.to_json(),
        "scored_data": scores.data,
        "num_scored": len(scores.images),
        "class_iou": tuple(row.iou for row in scores.classes),
        "chosen": scores.calibration.chosen if scores.calibration else Chosen(),
    }


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
            f"{_describe_saving(path)} Only state dicts of {', '.join(TORCHVISION_MODELS)} are recognised.",
        )
    num_classes = state["classifier.4.weight"].shape[0]
    model = {**TORCHVISION_MODELS[name], "auxiliary": any(key.startswith("aux_classifier.") for key in state)}
    network = _build(model, num_classes, path)
    _load_exactly(network, convert_torchvision(state), path)
    names = tuple(map(name_unnamed, range(num_classes)))
    return network, ModelCard(model=model, label_space=LabelSpace(names), data="unknown (torchvision state dict)")
