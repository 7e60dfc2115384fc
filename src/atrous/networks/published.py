"""torchvision's published DeepLabv3 models: their settings here, their files, and our names for their tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atrous.core.errors import ModelFileError
from atrous.core.labels import LabelSpace
from atrous.core.registry import describe_choices
from atrous.networks.weight_files import PublishedFile

if TYPE_CHECKING:
    from torch import Tensor

TORCHVISION = "torchvision/"
_HEAD = {"refinement": True, "dropout": 0.5}
TORCHVISION_MODELS: dict[str, dict[str, Any]] = {
    "torchvision/deeplabv3_resnet50": {
        "name": "deeplabv3-resnet50",
        "output_stride": 8,
        "convention": "torchvision",
        "head": _HEAD,
    },
    "torchvision/deeplabv3_resnet101": {
        "name": "deeplabv3-resnet101",
        "output_stride": 8,
        "convention": "torchvision",
        "head": _HEAD,
    },
    "torchvision/deeplabv3_mobilenet_v3_large": {
        "name": "deeplabv3-mobilenet_v3_large",
        "output_stride": 16,
        "convention": "torchvision",
        "first_unit_rate": "uniform",
        "head": {**_HEAD, "rates": [12, 24, 36]},
    },
}
"""torchvision's models by name, with the settings under which our network computes what theirs does."""

_TORCHVISION_MARKS = {
    "backbone.layer3.22.conv1.weight": "torchvision/deeplabv3_resnet101",
    "backbone.layer3.5.conv1.weight": "torchvision/deeplabv3_resnet50",
    "backbone.16.0.weight": "torchvision/deeplabv3_mobilenet_v3_large",
}
"""Tensors that identify a model; the first one found in the file decides."""

TORCHVISION_DATA = "COCO with VOC's classes (torchvision's COCO_WITH_VOC_LABELS_V1)"


def fetch_torchvision_model(name: str) -> tuple[Path, LabelSpace]:
    """Return the file of a whole torchvision model, downloaded once and verified, and its classes: VOC's.

    Args:
        name: A key of `TORCHVISION_MODELS`.
    Raises:
        MachineError: The download failed.
        ModelFileError: The file is not the published one.
    """
    from torchvision.models import get_model_weights  # type: ignore[attr-defined]

    weights = get_model_weights(name.removeprefix(TORCHVISION))["COCO_WITH_VOC_LABELS_V1"]
    return PublishedFile(weights.url, "BSD-3-Clause").fetch(), name_torchvision_classes(name)


def name_torchvision_classes(name: str) -> LabelSpace:
    """Return the classes of a whole torchvision model: VOC's, with its colours. Nothing is downloaded.

    Args:
        name: A key of `TORCHVISION_MODELS`.
    """
    from torchvision.models import get_model_weights  # type: ignore[attr-defined]

    weights = get_model_weights(name.removeprefix(TORCHVISION))["COCO_WITH_VOC_LABELS_V1"]
    names = ("background", *weights.meta["categories"][1:])
    return LabelSpace(names, colours=tuple(_compute_voc_colour(index) for index in range(len(names))))


def _compute_voc_colour(index: int) -> tuple[int, int, int]:
    """Return PASCAL VOC's colour of a class: the bits of its index, dealt out to the channels' bits from the top."""
    red, green, blue = (
        sum((index >> (3 * place + channel) & 1) << (7 - place) for place in range(3)) for channel in range(3)
    )
    return red, green, blue


def read_torchvision_settings(name: str) -> dict[str, Any]:
    """Return the settings of a torchvision model.

    Raises:
        ModelFileError: `name` is not a key of `TORCHVISION_MODELS`.
    """
    if name not in TORCHVISION_MODELS:
        raise ModelFileError(
            f"{name}: is neither a file nor the name of a published model",
            describe_choices(name, list(TORCHVISION_MODELS)),
        )
    return TORCHVISION_MODELS[name]


def is_torchvision(state: Mapping[str, Tensor]) -> bool:
    """Return whether these are the tensors of a torchvision DeepLabv3."""
    return "classifier.0.convs.0.0.weight" in state and "classifier.4.weight" in state


def recognise_torchvision(state: Mapping[str, Tensor]) -> str | None:
    """Return the key of `TORCHVISION_MODELS` that a state dict belongs to, or None."""
    if not is_torchvision(state):
        return None
    return next((name for mark, name in _TORCHVISION_MARKS.items() if mark in state), None)


def convert_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a torchvision DeepLabv3 under our names."""
    renamed = {}
    for name, tensor in state.items():
        for old, new in _TORCHVISION_NAMES:
            if name.startswith(old):
                name = new + name.removeprefix(old)
                break
        renamed[name] = tensor
    return renamed


_TORCHVISION_NAMES = (
    *((f"backbone.{i}.", f"backbone.features.{i}.") for i in range(17)),  # MobileNetV3 has no name of its own there
    ("classifier.0.convs.0.0.", "head.aspp.point.conv."),
    ("classifier.0.convs.0.1.", "head.aspp.point.norm."),
    *((f"classifier.0.convs.{i}.0.", f"head.aspp.atrous.{i - 1}.spatial.conv.") for i in (1, 2, 3)),
    *((f"classifier.0.convs.{i}.1.", f"head.aspp.atrous.{i - 1}.spatial.norm.") for i in (1, 2, 3)),
    ("classifier.0.convs.4.1.", "head.aspp.pooling.conv."),
    ("classifier.0.convs.4.2.", "head.aspp.pooling.norm."),
    ("classifier.0.project.0.", "head.aspp.projection.conv."),
    ("classifier.0.project.1.", "head.aspp.projection.norm."),
    ("classifier.1.", "head.refinement.conv."),
    ("classifier.2.", "head.refinement.norm."),
    ("classifier.4.", "head.classifier."),
    ("aux_classifier.0.", "auxiliary_head.hidden.conv."),
    ("aux_classifier.1.", "auxiliary_head.hidden.norm."),
    ("aux_classifier.4.", "auxiliary_head.classifier."),
)
