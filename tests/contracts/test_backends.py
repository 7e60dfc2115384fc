"""What every backend must keep: the answers of PyTorch, to rounding, whatever is asked."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

import atrous
from atrous.core.errors import ConfigError
from atrous.core.inference_options import InferenceOptions, Opening
from atrous.exporting import FORMATS
from atrous.inference import BACKENDS, precision
from atrous.inference.build import build_labeller
from atrous.inference.engine import Engine, list_network_backends
from atrous.inference.exported import read_file
from atrous.inference.labelling.labeller import Labeller
from atrous.networks.layers.resize import enlarge_logits
from atrous.networks.model_card import ModelCard
from atrous.networks.segmenter import Segmenter
from tiny import build_tiny

TOLERANCE = 1e-4
"""Of logits, as a share of their spread; a scaled copy is rounded to whole steps of 0 to 255 before a file sees it."""
SCALED_TOLERANCE = 0.02
"""Of probabilities, where scaled copies are averaged in."""
FORMAT_OF = {FORMATS.load(name).suffix: name for name in FORMATS}
EVERY = [
    *((backend, "") for backend in list_network_backends()),
    *((backend, suffix) for suffix in FORMAT_OF for backend in BACKENDS.find_tagged(suffix)),
]
SLOW = [pytest.mark.slow]
"""Compiling takes many seconds for each size."""

pytestmark = pytest.mark.filterwarnings("ignore:.*")  # the exporters' own


def test_every_backend_is_here() -> None:
    assert {backend for backend, _ in EVERY} == set(BACKENDS)


@pytest.fixture(
    scope="module", params=[pytest.param(pair, id="".join(pair), marks=SLOW * (pair[0] == "compile")) for pair in EVERY]
)
def build(
    request: pytest.FixtureRequest, tiny_card: ModelCard, export_tiny: Callable[..., Path]
) -> Callable[..., Labeller]:
    """Build a labeller on the backend in question; its engine is the same one in every test."""
    backend, suffix = request.param
    return choose_backend(backend, build_tiny(), tiny_card, suffix=suffix, export=export_tiny)


def choose_backend(
    backend: str,
    network: Segmenter,
    tiny_card: ModelCard,
    *,
    suffix: str = "",
    export: Callable[..., Path] | None = None,
) -> Callable[..., Labeller]:
    """Return what builds a labeller on a backend, from the network or from its exported file."""

    @functools.cache
    def build_engine(argmax: bool) -> Engine:
        source = network
        if suffix:
            source = read_file(export(FORMAT_OF[suffix], argmax=argmax), backend=backend, trust=True)
        return Engine(source, device="cpu", backend=backend)

    def build(*, argmax: bool = False, **options: object) -> Labeller:
        precision = options.pop("precision", "auto")
        engine = build_engine(argmax and bool(suffix))
        return build_labeller(engine, tiny_card.label_space, InferenceOptions(**options), precision=precision)

    return build


def draw(batch: int, height: int, width: int) -> torch.Tensor:
    """Blocks of colours, (B, 3, H, W) uint8: noise looks the same everywhere."""
    coarse = torch.rand(batch, 3, height // 8 + 1, width // 8 + 1, generator=torch.Generator().manual_seed(width))
    blocks = coarse.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)[:, :, :height, :width]
    return (blocks * 255).to(torch.uint8)


def draw_image() -> np.ndarray:
    return draw(1, 50, 71)[0].permute(1, 2, 0).contiguous().numpy()


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 40), (1, 37, 2), (3, 33, 65), (1, 64, 96)], ids=str)
def test_any_size_and_batch(build: Callable[..., Labeller], tiny_network: Segmenter, shape: tuple[int, ...]) -> None:
    images = draw(*shape)
    with torch.inference_mode():
        expected = tiny_network(images)
    cells = build().backend(images)
    found = enlarge_logits(cells.logits, cells.geometry)
    assert found.dtype == torch.float32
    spread = float(expected.max() - expected.min())
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE * spread)


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [({}, 1e-4), ({"flip": True}, 1e-4), ({"window": 33}, 1e-4), ({"scales": (0.5, 1.0, 1.3)}, SCALED_TOLERANCE)],
    ids=str,
)
def test_images_are_labelled_as_by_the_living_network(
    build: Callable[..., Labeller],
    tiny_network: Segmenter,
    tiny_card: ModelCard,
    options: dict[str, object],
    tolerance: float,
) -> None:
    image = draw_image()
    living = build_labeller(Engine(tiny_network, device="cpu"), tiny_card.label_space, InferenceOptions(**options))
    _, _, expected = living.label_image(image, probabilities=True)
    indices, confidence, probs = build(**options).label_image(image, probabilities=True)
    np.testing.assert_allclose(probs, expected, atol=tolerance + 1e-3)  # they are kept in 16 bits
    np.testing.assert_allclose(confidence, probs.max(axis=0), atol=1e-3)
    given = np.take_along_axis(expected, indices[None].astype(np.int64), axis=0)[0]
    np.testing.assert_allclose(given, expected.max(axis=0), atol=2 * tolerance + 2e-3)  # near ones may change places
    assert len(np.unique(indices)) > 1


def test_labels_alone_are_those_of_the_logits(build: Callable[..., Labeller], tiny_network: Segmenter) -> None:
    labeller = build(argmax=True)
    image = draw_image()
    indices, confidence, _ = labeller.label_image(image)
    with torch.inference_mode():
        expected = tiny_network(torch.from_numpy(image).permute(2, 0, 1)[None]).argmax(dim=1)[0].numpy()
    np.testing.assert_array_equal(indices, expected)
    assert (confidence is None) == labeller.backend.labels_only
    images = torch.from_numpy(image).permute(2, 0, 1)[None]
    np.testing.assert_array_equal(labeller.backend.label(images)[0].numpy(), expected)


def test_memory_is_known(build: Callable[..., Labeller]) -> None:
    assert build().backend.measure_bytes_per_pixel() > 0


def test_a_precision_is_there_or_refused(build: Callable[..., Labeller]) -> None:
    if "bf16" in getattr(build().backend, "precisions", ("bf16",)):
        probs = build(precision="bf16").label_image(draw_image(), probabilities=True)[2]
        np.testing.assert_allclose(probs.sum(axis=0), 1, atol=0.01)
    else:
        with pytest.raises(ConfigError, match="precision bf16"):
            build(precision="bf16")


def test_the_table_says_which_backends_compute_in_bf16() -> None:
    for name in [*BACKENDS.find_tagged("network"), *BACKENDS.find_tagged(".onnx")]:
        assert ("bf16" in BACKENDS.load(name).precisions) == (name in BACKENDS.find_tagged("bf16"))


def test_a_living_network_is_converted_again_once_it_has_changed(tiny_network: Segmenter, tiny_card: ModelCard) -> None:
    model = atrous.Model(tiny_network, tiny_card, Opening(backend="openvino"))
    image = draw_image()
    labeller = model.build_labeller()
    assert (labeller.label_image(image)[0] != 1).any()
    assert tiny_network.output_stride == 16
    with torch.no_grad():
        tiny_network.head.classifier.bias[1] += 1e3
    assert (labeller.label_image(image)[0] == 1).all()


def test_the_backend_of_a_call_is_that_of_the_call(tiny_network: Segmenter, tiny_card: ModelCard) -> None:
    model = atrous.Model(tiny_network, tiny_card)
    assert model.engine.backend == "torch"
    assert model.reopen(precision="fp32").engine is model.engine
    assert model.reopen(backend="torch").engine is model.engine
    assert model.reopen(backend="openvino").engine.backend == "openvino"
    own = atrous.Model(tiny_network, tiny_card, Opening(backend="openvino"))
    assert own.engine.backend == "openvino"
    assert own.reopen(backend="auto").engine.backend == "torch"


def test_two_threads_may_ask_one_backend(build: Callable[..., Labeller]) -> None:
    labeller = build()
    images = [draw_image(), draw_image()[::-1].copy()]
    expected = [labeller.label_image(image, confidence=False)[0] for image in images]
    with ThreadPoolExecutor(2) as pool:
        answers = pool.map(lambda n: labeller.label_image(images[n % 2], confidence=False)[0], range(12))
        for number, found in enumerate(answers):
            np.testing.assert_array_equal(found, expected[number % 2])


def test_what_is_found_as_good_in_bf16_runs_in_every_backend(
    tiny_network: Segmenter, tiny_card: ModelCard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "computes_bf16", lambda device_type: True)
    card = dataclasses.replace(tiny_card, score=0.5, score_bf16=0.5)
    found = {
        backend: atrous.Model(tiny_network, card, Opening(backend=backend)).build_labeller().protocol.precision
        for backend in ("auto", "compile", "openvino", "onnxruntime")
    }
    assert found == {"auto": "bf16", "compile": "bf16", "openvino": "bf16", "onnxruntime": "fp32"}
    with pytest.raises(ConfigError, match="precision bf16: backend 'onnxruntime' runs networks in fp32"):
        atrous.Model(tiny_network, card, Opening(backend="onnxruntime", precision="bf16")).build_labeller()


CONTRACT = (
    test_any_size_and_batch,
    test_labels_alone_are_those_of_the_logits,
    test_memory_is_known,
    test_a_precision_is_there_or_refused,
)
"""What `test_extension.py` asks of a part from outside the package."""
