"""A network that is small enough to be exported in every test, and its exported files."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from atrous.core.inputs import InputSpec
from atrous.core.labels import LabelSpace
from atrous.exporting import FORMATS
from atrous.exporting.export import export_network
from atrous.networks.contracts import Backbone, FeatureLevel, FeatureShapes
from atrous.networks.heads.deeplabv3 import DeepLabV3Head
from atrous.networks.model_file import ModelCard
from atrous.networks.segmenter import Segmenter

TINY_CHANNELS = 8
TINY_SPACE = LabelSpace(("sky", "road", "car"), ids=(0, 7, 200))


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
    """Give norms the statistics of a trained network, so that folding them matters, and scores a wider spread."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(torch.randn(module.running_mean.shape, generator=generator) * 0.1)
            module.running_var.copy_(torch.rand(module.running_var.shape, generator=generator) + 0.5)


def build_tiny(**options: object) -> Segmenter:
    torch.manual_seed(0)
    backbone = TinyBackbone()
    head = DeepLabV3Head(backbone.feature_shapes, TINY_SPACE.num_classes, channels=TINY_CHANNELS)
    network = Segmenter(backbone, head, num_classes=TINY_SPACE.num_classes, **options).eval()
    randomise(network)
    nn.init.normal_(head.classifier.weight)
    blocks = torch.rand(4, 3, 5, 5).repeat_interleave(13, dim=2).repeat_interleave(13, dim=3)
    with torch.no_grad():  # so that every class is somewhere the likeliest
        head.classifier.bias -= network(blocks).mean(dim=(0, 2, 3))
    return network


@pytest.fixture
def tiny_network() -> Segmenter:
    """A network of three classes."""
    return build_tiny()


@pytest.fixture(scope="session")
def tiny_card() -> ModelCard:
    """What is known of it; its ids are not its indices."""
    return ModelCard(model={"name": "tiny"}, label_space=TINY_SPACE, score=0.5, data="shapes")


@pytest.fixture(scope="session")
def export_tiny(tmp_path_factory: pytest.TempPathFactory, tiny_card: ModelCard) -> Callable[..., Path]:
    """The tiny network as a file, made once: by format and whether it gives labels alone."""
    folder = tmp_path_factory.mktemp("exported")

    def export(format: str, *, argmax: bool = False) -> Path:
        path = folder / f"{'labels' if argmax else 'logits'}{FORMATS.load(format).suffix}"
        if not path.exists():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the exporters' own
                export_network(build_tiny(), tiny_card, path, format=format, argmax=argmax)
        return path

    return export


@pytest.fixture(scope="session", autouse=True)
def _own_cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep facts of the files of tests out of the user's cache folder; processes that tests start inherit it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
