"""Networks from an image to class logits, and the tables of their parts."""

from __future__ import annotations

from atrous.core.registry import Registry

FAMILIES = Registry(
    "family",
    (
        ("deeplabv3", "atrous.networks.heads.deeplabv3:DeepLabV3Head"),
        ("deeplabv3-cascade", "atrous.networks.heads.fcn:FCNHead"),
        ("deeplabv3plus", "atrous.networks.heads.deeplabv3plus:DeepLabV3PlusHead"),
        ("deeplabv2", "atrous.networks.heads.deeplabv2:DeepLabV2Head"),
        ("pspnet", "atrous.networks.heads.pspnet:PSPNetHead"),
        ("imagepyramid", "atrous.networks.heads.imagepyramid:ImagePyramidHead"),
        ("fcn", "atrous.networks.heads.fcn:FCNHead"),
    ),
)
"""Heads by the first part of a model's name. A cascade's extra blocks belong to the backbone."""

BACKBONES = Registry(
    "backbone",
    (
        ("lite0", "atrous.networks.backbones.efficientnet_lite:build_lite0"),
        ("lite1", "atrous.networks.backbones.efficientnet_lite:build_lite1"),
        ("lite2", "atrous.networks.backbones.efficientnet_lite:build_lite2"),
        ("mobilenet_v3_large", "atrous.networks.backbones.mobilenet_v3:build_mobilenet_v3_large"),
        ("resnet18", "atrous.networks.backbones.resnet:build_resnet18"),
        ("resnet34", "atrous.networks.backbones.resnet:build_resnet34"),
        ("resnet50", "atrous.networks.backbones.resnet:build_resnet50"),
        ("resnet101", "atrous.networks.backbones.resnet:build_resnet101"),
        ("resnet152", "atrous.networks.backbones.resnet:build_resnet152"),
    ),
)
"""Functions that build a backbone, by the rest of a model's name; `backbones/from_timm.py` builds `timm/<name>`.

The `Backbone` itself declares its input, sizes, strides, weights with their licence, and parameter groups."""
