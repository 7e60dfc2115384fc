"""Build a network from names and settings. The only file here that imports the configuration."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from atrous.config.options import read_options
from atrous.config.schema import LARGEST_SIDE_PX, ModelConfig
from atrous.core.errors import ConfigError
from atrous.core.inputs import InputSpec
from atrous.core.labels import IGNORE_INDEX
from atrous.core.words import add_article
from atrous.networks import BACKBONES, FAMILIES
from atrous.networks.backbones.from_timm import build_timm
from atrous.networks.contracts import AtrousPlan, Backbone
from atrous.networks.heads.fcn import FCNHead
from atrous.networks.input_layer import set_input
from atrous.networks.names import TIMM, split_name
from atrous.networks.segmenter import Segmenter

CONVENTIONS: dict[str, dict[str, Any]] = {
    "atrous": {"first_unit_rate": "exact", "resize": "aligned", "image_pooling": "image"},
    "torchvision": {"first_unit_rate": "exact", "resize": "half_pixel", "image_pooling": "image"},
    "tensorflow": {"first_unit_rate": "uniform", "resize": "aligned", "image_pooling": "map"},
}
"""Settings in which implementations differ, by preset; each field can also be set alone."""

AUXILIARY_DROPOUT = 0.1
CASCADE = "deeplabv3-cascade"
CASCADE_BLOCKS = 3
"""Extra blocks of a cascade by default: blocks 5, 6 and 7."""


def build_network(model: ModelConfig, num_classes: int, input_spec: InputSpec | None = None) -> Segmenter:
    """Build a network with random weights.

    Args:
        model: Its settings; `weights` is ignored.
        num_classes: Scored classes, 1 to 65,535.
        input_spec: The images that it takes. Default: those of the backbone's published weights, RGB of 8 bits.
    Raises:
        ConfigError: An unknown name or option, or an output stride that the network cannot have.
    """
    if not 1 <= num_classes <= IGNORE_INDEX:
        raise ConfigError(f"classes: got {num_classes:,}", f"Allowed: 1 to {IGNORE_INDEX:,}, as masks have 16 bits.")
    family, backbone_name = split_name(model.name)
    backbone = _build_backbone(family, backbone_name, model)
    if input_spec is not None:
        set_input(backbone, input_spec)
    shapes = backbone.feature_shapes
    head_class = FAMILIES.load(family)
    options = read_options(head_class, model.head, "model.head", largest=LARGEST_SIDE_PX)
    head = head_class(shapes, num_classes, **options)
    auxiliary = None
    if model.auxiliary:
        level = shapes.find_level(backbone.auxiliary_stride)
        hidden = shapes.levels[level].channels // 4
        auxiliary = FCNHead(shapes, num_classes, level=level, hidden=hidden, dropout=AUXILIARY_DROPOUT)
    chosen = {key: getattr(model, key) or preset for key, preset in CONVENTIONS[model.convention].items()}
    network = Segmenter(
        backbone,
        head,
        auxiliary,
        num_classes=num_classes,
        output_stride=model.output_stride,
        pooling_window=_find_pooling_window(chosen["image_pooling"], model),
        **chosen,
    )
    network.settings = model.model_dump(mode="json") | {"weights": "none"}
    return network


def build_network_from(options: dict[str, Any], num_classes: int, input_spec: InputSpec | None = None) -> Segmenter:
    """Build a network from plain settings, such as a model file's.

    Args:
        options: Fields of the model's settings.
        num_classes: Scored classes, 1 to 65,535.
        input_spec: See `build_network`.
    Raises:
        ConfigError: See `build_network`; or a field that is unknown or of the wrong type.
    """
    return build_network(read_model_options(options), num_classes, input_spec)


def read_model_options(options: dict[str, Any]) -> ModelConfig:
    """Return plain settings of a model, checked and converted to their types.

    Raises:
        ConfigError: A field is unknown or of the wrong type.
    """
    if not isinstance(options, dict):
        raise ConfigError(f"model: got {add_article(type(options).__name__)}", "Give a mapping of its settings.")
    return ModelConfig(**options)


def _find_pooling_window(image_pooling: str, model: ModelConfig) -> int | None:
    if (image_pooling == "crop_window") != (model.pooling_window is not None):
        raise ConfigError(
            f"model.pooling_window: is {model.pooling_window}, and model.image_pooling is {image_pooling}",
            "Give both: image_pooling: crop_window, and the side of the training's crop in pixels as pooling_window.",
        )
    return model.pooling_window


def find_backbone(name: str) -> Callable[..., Backbone]:
    """Return the function that builds a backbone.

    Args:
        name: A name of `BACKBONES`, or `timm/<name>`.
    Raises:
        ConfigError: There is no such backbone.
    """
    if name.startswith(TIMM):
        return partial(build_timm, name.removeprefix(TIMM))
    build: Callable[..., Backbone] = BACKBONES.load(name)
    return build


def _build_backbone(family: str, name: str, model: ModelConfig) -> Backbone:
    options: dict[str, Any] = {}
    if model.multi_grid is not None:
        options["multi_grid"] = model.multi_grid
    if family == CASCADE:
        options["extra_blocks"] = CASCADE_BLOCKS if model.extra_blocks is None else model.extra_blocks
    elif model.extra_blocks is not None:
        raise ConfigError(f"model.extra_blocks: {model.name} is no cascade", f"Omit it, or choose {CASCADE}-{name}.")
    build = find_backbone(name)
    for option in options:
        if option not in inspect.signature(build).parameters:
            raise _refuse_option(name, option)
    return build(**options)


def _refuse_option(name: str, option: str) -> ConfigError:
    able = [other for other in BACKBONES if option in inspect.signature(BACKBONES.load(other)).parameters]
    words = {"multi_grid": "multi-grid", "extra_blocks": "extra blocks for a cascade"}
    return ConfigError(f"model.{option}: {name} has no {words[option]}", f"These have: {', '.join(able)}.")


def describe_network(name: str, output_stride: int = 16, **options: Any) -> dict[str, Any]:
    """Describe a model: parameters, levels, weights, and the rate of every convolution of 3x3 or larger.

    Args:
        name: `<family>-<backbone>`.
        output_stride: The output stride to describe it at.
        options: Other fields of the model's settings.
    Raises:
        ConfigError: See `build_network`.
    """
    model = ModelConfig(name=name, output_stride=output_stride, **options)
    with torch.random.fork_rng(devices=()):  # the caller's random numbers are not used for it
        network = build_network(model, num_classes=21)
    family, backbone_name = split_name(name)
    backbone = network.backbone
    file = backbone.imagenet
    return {
        "name": name,
        "family": family,
        "backbone": backbone_name,
        "atrous_identity": backbone.strides.identity if isinstance(backbone.strides, AtrousPlan) else "fixed stride",
        "image_size": network.size_rule.describe(),
        "imagenet_weights": "none" if file is None else f"{file.source}, licence {file.licence}",
        "parameters": sum(p.numel() for p in network.parameters()),
        "output_stride": output_stride,
        "levels": [
            {"channels": level.channels, "stride": min(level.native_stride, output_stride)}
            for level in network.feature_shapes.levels
        ],
        "head_rates": list(network.head.compute_rates(output_stride)),
        "head_options": {
            p.name: p.default if model.head.get(p.name) is None else model.head[p.name]
            for p in inspect.signature(FAMILIES.load(family)).parameters.values()
            if p.kind is inspect.Parameter.KEYWORD_ONLY
        },
        "rates": [
            {"name": f"backbone.{site.name}", "kernel": max(site.kernel), "stride": site.stride, "dilation": site.rate}
            for site in network.sites
        ],
    }
