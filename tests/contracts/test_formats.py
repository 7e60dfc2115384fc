"""What every format must keep: each family's answers, at any size, in each runtime that can run it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from atrous.core.labels import LabelSpace
from atrous.exporting import FORMATS
from atrous.exporting.export import export_network
from atrous.exporting.parity import measure_parity
from atrous.inference import BACKENDS
from atrous.inference.engine import Engine
from atrous.inference.exported import read_file
from atrous.networks import FAMILIES
from atrous.networks.build import build_network_from
from atrous.networks.model_card import ModelCard
from tiny import randomise

CLASSES = LabelSpace(tuple("abcde"))
SMALL = ((1, 3, 1, 1), (2, 3, 1, 40), (1, 3, 37, 2), (1, 3, 33, 65), (1, 3, 2, 5))
QUICK = ("deeplabv3-tiny",)
SLOW = (
    *(f"{family}-{backbone}" for family in FAMILIES for backbone in ("lite0", "resnet18")),
    "deeplabv3-resnet50",
)
VARIANTS = (
    {"output_stride": 8},
    {"resize": "half_pixel"},
    {"image_pooling": "crop_window", "pooling_window": 65},
)

pytestmark = pytest.mark.filterwarnings("ignore:.*")  # the exporters' own


def check(folder: Path, format: str, **model: object) -> None:
    """Export a network, which compares it at ordinary sizes, and compare at small ones in each runtime."""
    torch.manual_seed(0)
    network = build_network_from({"weights": "none", **model}, CLASSES.num_classes).eval()
    randomise(network)
    path = folder / f"model{FORMATS.load(format).suffix}"
    export_network(network, ModelCard(model=model, label_space=CLASSES), path, format=format)
    generator = torch.Generator().manual_seed(0)
    images = [torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator) for shape in SMALL]
    for runtime in BACKENDS.find_tagged(path.suffix):
        file = read_file(path, backend=runtime, trust=True)
        backend = Engine(file, device="cpu", backend=runtime).open_backend(file.output_stride, "fp32")
        parity = measure_parity(network, backend, images)
        assert parity.logits is not None
        assert parity.logits < 1e-4, (runtime, parity)


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("format", FORMATS)
def test_the_file_answers_as_the_network(tmp_path: Path, format: str, name: str) -> None:
    check(tmp_path, format, name=name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SLOW if name not in QUICK])
@pytest.mark.parametrize("format", FORMATS)
def test_every_family_answers_as_its_network(tmp_path: Path, format: str, name: str) -> None:
    check(tmp_path, format, name=name)


@pytest.mark.slow
@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize("format", FORMATS)
def test_conventions_and_strides_answer_as_their_network(
    tmp_path: Path, format: str, options: dict[str, object]
) -> None:
    check(tmp_path, format, name="deeplabv3-lite0", **options)
