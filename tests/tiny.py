"""A backbone of five convolutions, which models named `<family>-tiny` have while tests run.

As a program it is the command line with that backbone in its table, for tests that need a process of their own:
`python tests/tiny.py train ...`.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn

from atrous.core.inputs import InputSpec
from atrous.core.labels import LabelSpace
from atrous.networks import BACKBONES
from atrous.networks.contracts import Backbone, FeatureLevel, FeatureShapes
from atrous.networks.heads.deeplabv3 import DeepLabV3Head
from atrous.networks.layers import ways
from atrous.networks.segmenter import Segmenter

TINY = ("tiny", "tiny:TinyBackbone")
"""The backbone's entry in the table."""
TINY_CHANNELS = 8
FEWEST_CHANNELS, ways.FEWEST_CHANNELS = ways.FEWEST_CHANNELS, 1  # small networks are computed as wide ones are
TINY_SPACE = LabelSpace(("sky", "road", "car"), ids=(0, 7, 200))

RUN_SIDE = 65
"""Height and width of the images of `shapes_folder`, and the crop of `trained_run`."""
RUN_OPTIONS = (
    *("--model", "deeplabv3-tiny", "--weights", "none", "--crop", str(RUN_SIDE), "--batch", "2"),
    *("--class-weights", "auto", "--lr", "0.3", "--iterations", "8", "--workers", "0", "--quiet"),
    *("--set", "training.optimizer=sgd"),
    *("--set", "model.head={rates: [1, 2], channels: 16}", "--set", "training.accumulate=2"),
    *("--set", "training.norm_momentum=0.5", "--set", "training.ema_decay=0.5"),
    *("--set", "training.jitter=0.2", "--set", "training.clip_norm=5", "--set", "training.validations=4"),
)
"""Options of `trained_run`: all that could make a step depend on more than its number, such as dropout, several passes
over the data, jitter, averaged weights and clipping."""


class TinyBackbone(Backbone):
    """Five strided convolutions."""

    input_spec = InputSpec(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))

    def __init__(self) -> None:
        super().__init__()
        self.feature_shapes = FeatureShapes(tuple(FeatureLevel(TINY_CHANNELS, 2**n) for n in range(1, 6)))
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(i, TINY_CHANNELS, 3, stride=2, padding=1), nn.BatchNorm2d(TINY_CHANNELS), nn.ReLU())
            for i in (3, *[TINY_CHANNELS] * 4)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        levels = [image]
        for block in self.blocks:
            levels.append(block(levels[-1]))
        return levels[1:]


def randomise(network: nn.Module) -> None:
    """Give norms the statistics of a trained network, so that folding them matters."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=generator) * 0.1)
            module.running_var.copy_(torch.rand(module.running_var.shape, generator=generator) + 0.5)


def build_tiny(**options: object) -> Segmenter:
    """Build a network of three classes, each of which is somewhere the likeliest."""
    torch.manual_seed(0)
    backbone = TinyBackbone()
    head = DeepLabV3Head(backbone.feature_shapes, TINY_SPACE.num_classes, channels=TINY_CHANNELS)
    network = Segmenter(backbone, head, num_classes=TINY_SPACE.num_classes, **options).eval()
    randomise(network)
    nn.init.normal_(head.classifier.weight)
    blocks = torch.rand(4, 3, 5, 5).repeat_interleave(13, dim=2).repeat_interleave(13, dim=3)
    with torch.no_grad():
        head.classifier.bias -= network(blocks).mean(dim=(0, 2, 3))
    return network


if __name__ == "__main__":
    from atrous.cli.main import main

    with BACKBONES.including(TINY):
        sys.exit(main(sys.argv[1:]))
