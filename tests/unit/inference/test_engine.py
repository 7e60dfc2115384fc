from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.parametrizations import weight_norm

from atrous.core.errors import ConfigError
from atrous.core.machine import find_cpu_kind
from atrous.graphs import atrous_form
from atrous.graphs.atrous_form import Rewriting
from atrous.inference import convolutions
from atrous.inference import engine as engine_module
from atrous.inference.engine import Engine, list_network_backends
from atrous.inference.exported import read_file
from atrous.model import Model
from atrous.networks.build import build_network_from
from atrous.networks.model_card import ModelCard
from atrous.networks.segmenter import Segmenter

IMAGE = torch.randint(256, (1, 3, 50, 71), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def find_expected(network: Segmenter) -> torch.Tensor:
    with torch.no_grad():
        return network.forward_cells(IMAGE).logits


class Halve(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight / 2


def replace_classifier(network: Segmenter) -> None:
    old = network.head.classifier
    network.head.classifier = nn.Conv2d(old.in_channels, old.out_channels, 1, bias=False)


CHANGES: dict[str, Callable[[Segmenter], object]] = {
    "an optimiser's step": lambda n: take_step(n),
    "a write through data": lambda n: n.head.classifier.weight.data.copy_(n.head.classifier.weight.data.flip(0)),
    "other data": lambda n: setattr(n.head.classifier.weight, "data", n.head.classifier.weight.data * 2),
    "a statistic": lambda n: n.backbone.blocks[0][1].running_mean.data.add_(1),
    "a parametrised convolution": lambda n: parametrize.register_parametrization(
        n.backbone.blocks[0][0], "weight", Halve()
    ),
    "weight norm": lambda n: weight_norm(n.backbone.blocks[0][0]).parametrizations.weight.original0.data.mul_(2),
    "pruning": lambda n: prune.random_unstructured(n.backbone.blocks[0][0], "weight", 0.5),
    "a hook of a convolution that a norm follows": lambda n: n.backbone.blocks[0][0].register_forward_hook(
        lambda module, inputs, output: output * 2
    ),
    "a hook of a norm": lambda n: n.backbone.blocks[0][1].register_forward_hook(
        lambda module, inputs, output: output + 1
    ),
    "a hook before the head": lambda n: n.head.register_forward_pre_hook(
        lambda module, inputs: ([level * 2 for level in inputs[0]], *inputs[1:])
    ),
    "another module": replace_classifier,
    "another norm": lambda n: n.backbone.blocks[0].__setitem__(
        1, nn.BatchNorm2d(n.backbone.blocks[0][1].num_features).eval()
    ),
}


def take_step(network: Segmenter) -> None:
    network.forward_cells(IMAGE).logits.sum().backward()
    torch.optim.Adam(network.parameters(), 0.1, foreach=True).step()


@pytest.mark.parametrize("change", CHANGES)
def test_a_call_uses_the_network_as_it_is(tiny_network: Segmenter, change: str) -> None:
    backend = Engine(tiny_network, device="cpu").open_backend(16, "fp32")
    before = find_expected(tiny_network)
    torch.testing.assert_close(backend(IMAGE).logits, before, rtol=1e-3, atol=1e-4)
    CHANGES[change](tiny_network)
    after = find_expected(tiny_network)
    assert not torch.allclose(after, before, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(backend(IMAGE).logits, after, rtol=1e-3, atol=1e-4)


def test_a_hook_is_the_networks_own(tiny_network: Segmenter) -> None:
    class Recorder:
        def __init__(self) -> None:
            self.shapes: list[torch.Size] = []

        def record(self, module: nn.Module, inputs: object, output: torch.Tensor) -> None:
            self.shapes.append(output.shape)

    recorder = Recorder()
    handle = tiny_network.head.classifier.register_forward_hook(recorder.record)
    backend = Engine(tiny_network, device="cpu").open_backend(16, "fp32")
    assert backend.measure_bytes_per_pixel() > 0
    assert not recorder.shapes  # preparing and measuring are no predictions
    backend(IMAGE)
    assert recorder.shapes == [(1, 3, 5, 7)]  # the cells of 65 x 97 pixels: the image and its padding
    handle.remove()
    backend(IMAGE)
    assert len(recorder.shapes) == 1


def test_what_is_prepared_is_kept_until_the_network_changes(tiny_network: Segmenter) -> None:
    engine = Engine(tiny_network, device="cpu")
    first = engine.prepare(16, "fp32")
    assert engine.prepare(16, "fp32") is first
    assert engine.prepare(8, "fp32") is not first
    tiny_network.output_stride = 8  # what the network itself is switched to changes nothing
    assert engine.prepare(16, "fp32") is first
    tiny_network.head.classifier.bias.data += 1
    assert engine.prepare(16, "fp32") is not first


def test_a_backend_that_is_held_keeps_the_state_it_was_held_in(tiny_network: Segmenter) -> None:
    backend = Engine(tiny_network, device="cpu").open_backend(16, "fp32")
    before = backend(IMAGE).logits
    held = backend.hold()
    tiny_network.head.classifier.bias.data += 1
    assert torch.equal(held(IMAGE).logits, before)
    torch.testing.assert_close(backend(IMAGE).logits, before + 1)


@pytest.mark.parametrize(
    ("options", "num_images"),
    [({}, 1), ({"scales": (0.5, 1), "flip": True, "window": 33}, 1), ({"crf": True, "flip": True}, 1), ({}, 3)],
)
def test_the_weights_are_read_once_for_each_image(
    tiny_network: Segmenter,
    tiny_card: ModelCard,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, object],
    num_images: int,
) -> None:
    read: list[int] = []

    class Counted(engine_module.NetworkDigest):
        def compute(self) -> bytes:
            read.append(1)
            return super().compute()

    monkeypatch.setattr(engine_module, "NetworkDigest", Counted)
    model = Model(tiny_network, tiny_card)
    image = IMAGE[0].permute(1, 2, 0).numpy()
    model.predict(image, **options)  # prepares the network
    read.clear()
    model.predict([image] * num_images, **options)
    assert len(read) == num_images


def test_threads_get_right_answers_and_a_network_is_converted_once(
    tiny_network: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    class Counted(engine_module.ConvertedNetwork):
        def __init__(self, network: Segmenter, *rest: int | None) -> None:
            made.append(network.output_stride)
            super().__init__(network, *rest)

    monkeypatch.setattr(engine_module, "ConvertedNetwork", Counted)
    engine = Engine(tiny_network, device="cpu", backend="onnxruntime")
    expected = find_expected(tiny_network)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: engine.open_backend(16, "fp32")(IMAGE).logits, range(8)))
    assert made == [16]
    for answer in answers:
        torch.testing.assert_close(answer, expected, rtol=1e-3, atol=1e-3)


def test_threads_share_the_engine_of_a_model(tiny_network: Segmenter, tiny_card: ModelCard) -> None:
    model = Model(tiny_network, tiny_card)
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: id(model.engine), range(32)))) == 1


def test_threads_at_other_strides_do_not_meet(tiny_network: Segmenter) -> None:
    engine = Engine(tiny_network, device="cpu")
    backends = [engine.open_backend(stride, "fp32") for stride in (16, 8)]
    expected = [backend(IMAGE).logits for backend in backends]
    assert expected[0].shape != expected[1].shape
    with ThreadPoolExecutor(4) as pool:
        for number, cells in enumerate(pool.map(lambda number: backends[number % 2](IMAGE), range(16))):
            torch.testing.assert_close(cells.logits, expected[number % 2])


def test_windows_of_the_pooling_are_those_of_the_network(tiny_network: Segmenter) -> None:
    backend = Engine(tiny_network, device="cpu").open_backend(16, "fp32")
    whole = backend(IMAGE).logits
    tiny_network.pooling_window = 33
    torch.testing.assert_close(backend(IMAGE).logits, find_expected(tiny_network), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(backend(IMAGE).logits, whole, atol=1e-3)
    tiny_network.pooling_window = None
    assert torch.equal(backend(IMAGE).logits, whole)


def test_an_engine_goes_with_all_that_it_prepared(tiny_network: Segmenter) -> None:
    engine = Engine(tiny_network, device="cpu")
    prepared = weakref.ref(engine.prepare(16, "fp32"))
    assert prepared() is not None
    del engine
    gc.collect()
    assert prepared() is None


def test_the_budget_does_not_depend_on_free_memory(tiny_network: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Engine(tiny_network, device="cpu").budget_mib
    monkeypatch.setattr("atrous.core.machine.compute_free_bytes", lambda: 2**20)
    monkeypatch.setattr("atrous.networks.device.compute_free_bytes", lambda: 2**20)
    assert Engine(tiny_network, device="cpu").budget_mib == before > 0


def test_an_exported_file_is_opened_once_and_only_as_it_was_exported(
    export_tiny: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(read_file(export_tiny("onnx")), device="cpu")
    assert engine.backend == "onnxruntime"
    prepare, opened = engine._type, []
    monkeypatch.setattr(engine, "_type", lambda *args, **options: opened.append(1) or prepare(*args, **options))
    for _ in range(2):
        backend = engine.open_backend(16, "fp32")
        assert torch.equal(backend(IMAGE).logits, backend.hold()(IMAGE).logits)
    assert opened == [1]
    with pytest.raises(ConfigError, match="was exported at 16, which is fixed"):
        engine.open_backend(8, "fp32")
    with pytest.raises(ConfigError, match="computes in fp32"):
        engine.open_backend(16, "int8")


def test_what_cannot_run_is_refused(tiny_network: Segmenter) -> None:
    assert list_network_backends() == ["torch", "compile", "onnxruntime", "openvino"]
    for backend, message in (("pt2", "runs exported files, not networks"), ("tensorrt", "unknown backend 'tensorrt'")):
        with pytest.raises(ConfigError, match=message) as caught:
            Engine(tiny_network, backend=backend)
        assert caught.value.hint.endswith("Allowed: auto, torch, compile, onnxruntime, openvino.")
    with pytest.raises(ConfigError, match="unknown device 'tpu9'"):
        Engine(tiny_network, device="tpu9")
    with pytest.raises(ConfigError, match="precision int8: backend 'torch' runs networks in fp32 and bf16"):
        Engine(tiny_network, device="cpu").open_backend(16, "int8")


@pytest.mark.filterwarnings("ignore")  # the exporters' own
def test_a_converted_network_has_the_form_that_is_faster_here(monkeypatch: pytest.MonkeyPatch) -> None:
    onnx = pytest.importorskip("onnx")
    network = build_network_from({"name": "deeplabv3-tiny", "weights": "none", "head": {"rates": [1, 4]}}, 3).eval()
    engine = Engine(network, device="cpu", backend="onnxruntime")

    def count_wide(backend: object) -> int:
        nodes = onnx.load_from_string(backend.graph.source).graph.node  # type: ignore[attr-defined]
        rates = [list(each.ints) for node in nodes for each in node.attribute if each.name == "dilations"]
        return sum(max(rate) > 1 for rate in rates)

    native = engine.prepare(16, "fp32")
    assert count_wide(native) == 1
    monkeypatch.setattr(atrous_form, "FASTER", {(find_cpu_kind(), "onnxruntime", "fp32"): Rewriting()})
    [wide] = [
        each
        for each in Model(network, classes=["a", "b", "c"]).reopen(backend="onnxruntime").list_convolutions((50, 71))
        if each.rate == (4, 4)
    ]
    assert (wide.output, wide.why["output"]) == ("taps", convolutions.REWRITTEN)
    rewritten = Engine(network, device="cpu", backend="onnxruntime").prepare(16, "fp32")
    assert count_wide(rewritten) == 0
    assert torch.allclose(rewritten(IMAGE).logits, find_expected(network), atol=1e-5)
    assert torch.allclose(native(IMAGE).logits, find_expected(network), atol=1e-5)
