"""The card of a model file: what predictions need besides the tensors, and where the weights come from. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from atrous.core.arguments import require_field_types
from atrous.core.calibration import Chosen
from atrous.core.errors import ModelFileError
from atrous.core.inputs import PHOTO, ImageForm
from atrous.core.labels import LabelSpace
from atrous.core.records import Protocol, Scores
from atrous.core.system_errors import describe_reason, raise_shortage

FORMAT = "atrous-model"
FORMAT_VERSION = 2


@dataclass(frozen=True)
class ModelCard:
    """What a model file holds besides the tensors.

    Args:
        model: The network's settings, the build stride and the weights that the run started from among them.
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
        recipe_sha256: Hash of the settings of the run, all its stages included, but for places of data.
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


def read_card(path: Path) -> ModelCard:
    """Read the metadata of a model file without its tensors.

    Raises:
        ModelFileError: No such file, damaged, of another kind, or written by a later version.
    """
    return parse_card(path, read_metadata(path))


def read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a .safetensors file of any origin.

    Raises:
        ModelFileError: No such file, or it cannot be read.
    """
    if not path.is_file():
        raise ModelFileError(f"{path}: no such file", "Give a run folder, a .safetensors or a .pth file.")
    try:
        with safe_open(path, framework="np") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise_shortage(error, path)
        raise ModelFileError(
            f"{path}: cannot be read: {describe_reason(error)}", "The file is damaged or not a .safetensors file."
        ) from error


def parse_card(path: Path, metadata: Mapping[str, str]) -> ModelCard:
    """Return the card that the metadata of a file hold.

    Args:
        path: The file, for messages.
        metadata: What `read_metadata` returned.
    Raises:
        ModelFileError: They were not written by atrous, are damaged, or of a later version.
    """
    if metadata.get("format") != FORMAT:
        raise ModelFileError(
            f"{path}: was not written by atrous, so its network and its classes are not known", describe_saving(path)
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


def describe_saving(path: Path) -> str:
    """Return a hint that tells how a file of tensors alone becomes a model file."""
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
