"""Every size of image on every backend in every precision: labels are right, repeatable, and cost no lasting memory."""

from __future__ import annotations

import functools
import gc
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import atrous
from atrous.core.inference_options import InferenceOptions
from atrous.exporting import FORMATS, parity
from atrous.exporting.export import export_network
from atrous.inference import BACKENDS
from atrous.inference.build import build_labeller
from atrous.inference.engine import Engine, list_network_backends
from atrous.inference.exported import read_file
from atrous.inference.labelling.labeller import Labeller
from atrous.networks.model_card import ModelCard
from atrous.networks.segmenter import Segmenter
from tiny import TINY_SPACE, build_tiny

pytestmark = pytest.mark.filterwarnings("ignore:.*")  # the exporters' own

LARGEST_GAPS = {"fp32": 1e-4, "bf16": 0.02}
"""How far the logit of a label may be below the largest one in fp32, as a share of the spread: ties, to rounding. The
spread is that of the image or that of an ordinary image, whichever is larger: small images can be nearly uniform."""
MOST_GROWTH_MIB = 96
"""What the second half of the sizes may take, as fragments of the heap; a cache without bound takes half a gigabyte. In
the first half caches of kernels fill up, among them oneDNN's, of 1024 kernels for a whole process: some 400 MiB."""
SMALL = [*itertools.product(range(1, 41), repeat=2)]
QUICK = [(1, 1), (1, 40), (40, 1), (100, 1), (2, 3), (33, 2), (17, 16), (33, 65)]
FORMAT_OF = {FORMATS.load(name).suffix: name for name in FORMATS}
RUNS = [
    *((backend, "", precision) for backend in list_network_backends() for precision in ("fp32", "bf16")),
    *(
        (backend, suffix, precision)
        for suffix in FORMAT_OF
        for backend in BACKENDS.find_tagged(suffix)
        for precision in ("fp32", "bf16", "int8")
    ),
]
"""Backend, suffix of the exported file or nothing for a network, precision; those that do not exist are skipped."""


def draw_large() -> list[tuple[int, int]]:
    generator = np.random.default_rng(0)
    sides = [(int(generator.integers(1, 3001)), int(generator.integers(1, 301))) for _ in range(50)]
    return [(long, short) if number % 2 else (short, long) for number, (long, short) in enumerate(sides)]


def draw_image(height: int, width: int) -> np.ndarray:
    generator = np.random.default_rng((height, width))
    blocks = generator.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return np.ascontiguousarray(blocks.repeat(8, axis=0).repeat(8, axis=1)[:height, :width])


@functools.cache
def build_network() -> Segmenter:
    return build_tiny()


@functools.cache
@torch.inference_mode()
def compute_logits(height: int, width: int) -> torch.Tensor:
    """Return the tiny network's logits of an image in fp32, (K, H, W)."""
    return build_network()(torch.from_numpy(draw_image(height, width)).permute(2, 0, 1)[None])[0]


def read_memory_mib() -> float:
    gc.collect()
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def check_size(labeller: Labeller, size: tuple[int, int]) -> None:
    """Label an image twice, and compare with the tiny network in fp32, but in 8 bits."""
    image = draw_image(*size)
    indices, confidence, _ = labeller.label_image(image)
    again = labeller.label_image(image)
    np.testing.assert_array_equal(indices, again.indices)
    np.testing.assert_array_equal(confidence, again.confidence)
    assert np.isfinite(confidence).all()
    assert confidence.shape == size
    if labeller.protocol.precision == "int8":
        return
    assert measure_gap(compute_logits(*size), indices) <= LARGEST_GAPS[labeller.protocol.precision], size


def measure_gap(logits: torch.Tensor, indices: np.ndarray) -> float:
    """Return how far the logits (K, H, W) of labels (H, W) are below the largest ones at most."""
    chosen = logits.gather(0, torch.from_numpy(indices.astype(np.int64))[None])[0]
    spread = max(float(each.max() - each.min()) for each in (logits, compute_logits(97, 129)))
    return float((logits.amax(dim=0) - chosen).max()) / spread


def iter_calibration() -> Iterator[np.ndarray]:
    for number in range(8):
        yield draw_image(65 + number, 79)


@pytest.fixture(scope="module")
def build(
    tmp_path_factory: pytest.TempPathFactory, export_tiny: Callable[..., Path]
) -> Callable[[str, str, str], Labeller]:
    folder = tmp_path_factory.mktemp("files")

    def build(backend: str, suffix: str, precision: str) -> Labeller:
        source: object = build_tiny()
        if suffix:
            path = export_tiny(FORMAT_OF[suffix])
            if precision == "int8":
                path = folder / f"int8{suffix}"
                if not path.exists():
                    card = ModelCard(model={"name": "tiny"}, label_space=TINY_SPACE)
                    with pytest.MonkeyPatch.context() as patch:
                        patch.setattr(parity, "LARGEST_LABEL_SHARE_INT8", 1.0)  # random weights tolerate less
                        images = list(iter_calibration())
                        export_network(source, card, path, format=FORMAT_OF[suffix], calibration=images)
            source = read_file(path, backend=backend, trust=True)
        engine = Engine(source, device="cpu", backend=backend)
        return build_labeller(engine, TINY_SPACE, InferenceOptions(), precision=precision)

    return build


def exists(backend: str, suffix: str, precision: str) -> bool:
    if precision not in BACKENDS.load(backend).precisions:
        return False
    if precision == "bf16":
        return not suffix  # files are refused in bf16
    return precision != "int8" or suffix in (".onnx", ".xml")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_odd_sizes(build: Callable[..., Labeller], precision: str) -> None:
    labeller = build("torch", "", precision)
    for size in QUICK:
        check_size(labeller, size)


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("run", [run for run in RUNS if exists(*run)], ids="-".join)
def test_every_size(
    build: Callable[..., Labeller], run: tuple[str, str, str], record_property: Callable[[str, object], None]
) -> None:
    labeller = build(*run)
    small, large = list(SMALL), draw_large()
    np.random.default_rng(1).shuffle(small)
    if run[0] == "compile":  # which takes seconds for each of the first sizes
        small, large = QUICK, large[:12]
    sizes = [*large, *map(tuple, small)]
    for size in sizes:
        compute_logits(*size)
    for size in sizes[: len(sizes) // 2]:
        check_size(labeller, size)
    before = read_memory_mib()
    for size in sizes[len(sizes) // 2 :]:
        check_size(labeller, size)
    grown = read_memory_mib() - before
    record_property("grown_mib", round(grown))
    assert run[0] == "compile" or grown < MOST_GROWTH_MIB, f"{before:.0f} MiB after half of the sizes"


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["deeplabv3-lite0", "fcn-resnet18"])
@pytest.mark.parametrize("resize", ["aligned", "half_pixel"])
def test_odd_sizes_of_larger_networks(name: str, precision: str, resize: str) -> None:
    torch.manual_seed(0)
    network = atrous.build(name, classes=3, resize=resize).eval()
    labeller = build_labeller(Engine(network, device="cpu"), TINY_SPACE, InferenceOptions(), precision=precision)
    for size in QUICK:
        image = draw_image(*size)
        first, second = labeller.label_image(image), labeller.label_image(image)
        np.testing.assert_array_equal(first.indices, second.indices)
        np.testing.assert_array_equal(first.confidence, second.confidence)
        with torch.inference_mode():
            logits = network(torch.from_numpy(image).permute(2, 0, 1)[None])[0]
        assert measure_gap(logits, first.indices) <= LARGEST_GAPS[precision]
