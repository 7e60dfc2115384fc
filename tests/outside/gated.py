"""A backbone with a global average inside, and with published weights, as somebody outside the package writes one."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from atrous.core.inputs import InputSpec
from atrous.networks.contracts import (
    AtrousPlan,
    Backbone,
    FeatureLevel,
    FeatureShapes,
    ParameterGroup,
    group_by_decay,
)
from atrous.networks.weight_files import PublishedFile


class Gate(nn.Module):
    """Weight each channel by its average."""

    def forward(self, features: Tensor) -> Tensor:
        return features * torch.sigmoid(features.mean(dim=(2, 3), keepdim=True))


class Gated(Backbone):
    """Five strided convolutions, each with a gate."""

    input_spec = InputSpec(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    strides = AtrousPlan("pooled")
    imagenet = PublishedFile("https://example.org/gated.pth", "MIT")

    def __init__(self) -> None:
        super().__init__()
        channels = (3, 4, 4, 8, 8, 8)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(i, o, 3, stride=2, padding=1), nn.BatchNorm2d(o), nn.ReLU(), Gate())
            for i, o in itertools.pairwise(channels)
        )
        self.feature_shapes = FeatureShapes(tuple(FeatureLevel(c, 2**n) for n, c in enumerate(channels) if n))

    def forward(self, image: Tensor) -> list[Tensor]:
        levels = [image]
        for layer in self.layers:
            levels.append(layer(levels[-1]))
        return levels[1:]

    def group_parameters(self) -> list[ParameterGroup]:
        first, rest = group_by_decay(self.layers[0]), group_by_decay(self.layers[1:])
        return [ParameterGroup(group.parameters, group.decays, lr_factor=0.1) for group in first] + rest

    def adopt_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name.replace("stage", "layers."): tensor for name, tensor in state.items()}
