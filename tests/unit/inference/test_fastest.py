from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from atrous.core.errors import MemoryShort, ModelFileError
from atrous.inference import fastest as fastest_module
from atrous.inference.engine import Engine
from atrous.inference.fastest import FastestBackend, name_architecture
from atrous.inference.figures import FigureTable
from atrous.networks.contracts import Cells
from atrous.networks.segmenter import Segmenter

IMAGE = torch.randint(256, (1, 3, 50, 71), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
NARROW = IMAGE[..., :60].contiguous()


class Clock:
    """Time that passes when a backend computes: so many seconds an image."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Timed:
    """A backend that takes a given time; its results are those of another one, computed once a size, and changed."""

    def __init__(self, backend: Any, clock: Clock, seconds: float, change: Callable[[Tensor], Tensor]) -> None:
        self.backend, self.clock, self.seconds, self.change = backend, clock, seconds, change
        self.cells: dict[torch.Size, Cells] = {}
        self.num_classes, self.device, self.aligned = backend.num_classes, backend.device, backend.aligned
        self.labels_only, self.is_full_size, self.precisions = False, False, backend.precisions

    def hold(self) -> Timed:
        return self

    def __call__(self, images: Tensor) -> Cells:
        self.clock.now += self.seconds
        if images.shape not in self.cells:
            self.cells[images.shape] = self.backend(images)
        cells = self.cells[images.shape]
        return replace(cells, logits=self.change(cells.logits))


def keep(logits: Tensor) -> Tensor:
    return logits


class TimedEngine:
    """Gives out backends of known speed; a conversion takes 6 s, and opening a backend 2 s."""

    def __init__(self, network: Segmenter, clock: Clock, seconds: dict[str, float], changes: dict[str, Any]) -> None:
        self.engine = Engine(network, device="cpu")
        self.backend, self.device, self.precisions = "torch", self.engine.device, ("fp32", "bf16")
        self.clock, self.seconds, self.changes, self.is_converted = clock, seconds, changes, False

    def share(self, backend: str) -> TimedEngine:
        other = TimedEngine(self.engine.source, self.clock, self.seconds, self.changes)
        other.backend, other.is_converted = backend, self.is_converted
        return other

    def convert(self, output_stride: int, precision: str) -> None:
        self.clock.now += 0.0 if self.is_converted else 6.0

    def open_backend(self, output_stride: int, precision: str) -> Timed:
        self.clock.now += 0.0 if self.backend == "torch" else 2.0
        change = self.changes.get(self.backend, keep)
        backend = self.engine.open_backend(output_stride, precision)
        return Timed(backend, self.clock, self.seconds[self.backend], change)


class Setting:
    """Labels images with chosen speeds of torch and its rivals."""

    def __init__(self, network: Segmenter, folder: Path, **seconds: float) -> None:
        self.network, self.table, self.seconds = network, FigureTable("a CPU", folder), seconds
        self.changes: dict[str, Any] = {}
        self.messages: list[str] = []
        self.clock = Clock()

    def label(self, num_images: int, images: list[Tensor] | None = None) -> dict[str, Any]:
        engine: Any = TimedEngine(self.network, self.clock, self.seconds, self.changes)
        self.messages.clear()
        self.clock.now = 0.0
        self.backend = FastestBackend(
            engine,
            16,
            "fp32",
            network="tiny",
            table=self.table,
            on_message=self.messages.append,
            clock=self.clock,
            cpu_clock=self.clock,
        )
        self.backend.expect(num_images)
        for number in range(num_images):
            image = (images or [IMAGE])[number % len(images or [IMAGE])]
            self.backend.hold()(image)
        return self.backend.describe()


@pytest.fixture
def setting(tiny_network: Segmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setting:
    monkeypatch.setattr(fastest_module, "list_installed", lambda: ["openvino"])
    return Setting(tiny_network, tmp_path, torch=1.0, openvino=0.5)


def find_best_seconds(setting: Setting, num_images: int) -> float:
    """Wall time of the better choice made beforehand: torch, or the other backend with its start."""
    return min(num_images * setting.seconds["torch"], 8 + num_images * setting.seconds["openvino"])


@pytest.mark.parametrize("rival_s", [0.1, 0.5, 0.9, 1.5])
@pytest.mark.parametrize("num_images", [1, 4, 10, 100, 1000])
def test_with_figures_the_choice_is_within_a_tenth_of_the_best(
    setting: Setting, num_images: int, rival_s: float
) -> None:
    setting.seconds = {"torch": 1.0, "openvino": rival_s}
    setting.label(200)  # measures
    assert len(setting.table.list_current()) == 1
    setting.label(num_images)
    # The first images are torch's in any case: they are what is compared.
    first = 5 * max(1 - rival_s, 0) + rival_s
    assert setting.clock.now <= 1.1 * find_best_seconds(setting, num_images) + first


@pytest.mark.parametrize("num_images", [1, 4, 10, 50, 100, 1000])
def test_without_figures_a_slower_backend_costs_at_most_a_tenth(setting: Setting, num_images: int) -> None:
    setting.seconds["openvino"] = 2.0
    found = setting.label(num_images)
    assert setting.clock.now <= 1.1 * num_images
    assert found["chosen"] == "torch"


def test_few_images_are_torchs_and_many_the_faster_backends(setting: Setting) -> None:
    assert setting.label(50) | {"reason": ""} == {
        "chosen": "torch",
        "reason": "",
        "images": {},
        "problems": [],
        "figures": [],
    }
    found = setting.label(200)
    assert found["chosen"] == "openvino"
    assert found["images"] == {"torch": 5, "openvino": 195}
    [figure] = found["figures"]
    assert (figure["torch_s"], figure["backend_s"]) == pytest.approx((1e6 / IMAGE[0, 0].numel(), 5e5 / 3550))
    assert (figure["convert_s"], figure["open_s"]) == (6.0, 2.5)  # the first image is part of the start
    assert setting.messages == [
        "converting the network for openvino",
        "backend openvino for 192 images to come: per image, torch takes 1.0 s, openvino takes 500 ms",
    ]


def test_figures_of_an_earlier_call_decide_at_once(setting: Setting) -> None:
    setting.label(200)
    found = setting.label(30)  # 15 s saved for a start of 8.5
    assert found["images"] == {"torch": 5, "openvino": 25}
    found = setting.label(15)
    assert found["images"] == {}
    assert found["reason"] == "per image, torch takes 1.0 s, openvino would take 500 ms after a start of 8.5 s"


def test_a_backend_that_has_become_slower_is_left_again(setting: Setting) -> None:
    setting.label(200)
    setting.seconds["openvino"] = 3.0
    found = setting.label(100)
    assert found["chosen"] == "torch"
    assert found["images"] == {"torch": 97, "openvino": 3}
    assert setting.table.list_current()[-1].ratio == pytest.approx(3)


def test_a_backend_with_other_labels_is_not_used_and_that_is_said(setting: Setting) -> None:
    setting.changes["openvino"] = lambda logits: logits.flip(1)
    found = setting.label(200)
    assert found["chosen"] == "torch"
    assert found["images"] == {"torch": 200, "openvino": 0}
    [problem] = found["problems"]
    assert "backend openvino is not used: it differs from torch: logits by" in problem
    assert problem in setting.messages
    assert setting.table.list_current() == []


def test_a_backend_that_fails_later_is_replaced_by_torch(setting: Setting) -> None:
    calls = []

    def fail_late(logits: Tensor) -> Tensor:
        calls.append(logits)
        if len(calls) > 10:
            raise ModelFileError("the runtime has failed")
        return logits

    setting.changes["openvino"] = fail_late
    found = setting.label(200)
    assert found["chosen"] == "torch"
    assert found["problems"] == ["backend openvino is not used: it failed: the runtime has failed"]


def test_short_memory_is_the_callers_to_solve(setting: Setting) -> None:
    def fail(logits: Tensor) -> Tensor:
        raise MemoryShort("too large")

    setting.changes["torch"] = fail
    with pytest.raises(MemoryShort):
        setting.label(10)


def test_a_backend_that_cannot_be_started_is_passed_over(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: TimedEngine, backend: str) -> None:
        raise ImportError("libtbb is missing")

    monkeypatch.setattr(TimedEngine, "share", fail)
    found = setting.label(200)
    assert found["chosen"] == "torch"
    assert found["problems"] == ["backend openvino is not used: it cannot be started: libtbb is missing"]


def test_the_second_rival_needs_no_conversion(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastest_module, "list_installed", lambda: ["onnxruntime", "openvino"])
    setting.seconds = {"torch": 1.0, "onnxruntime": 0.8, "openvino": 0.5}
    found = setting.label(1000)
    assert found["chosen"] == "openvino"
    assert found["images"] == {"torch": 6, "onnxruntime": 3, "openvino": 991}
    found = setting.label(1000)  # by figures the better one is started alone
    assert found["images"] == {"torch": 5, "openvino": 995}


def test_the_first_image_of_each_size_does_not_count(setting: Setting) -> None:
    found = setting.label(200, [IMAGE, NARROW])
    assert found["images"] == {"torch": 6, "openvino": 194}


def test_images_that_all_differ_in_size_are_judged_all_the_same(setting: Setting) -> None:
    images = [IMAGE[..., : 71 - number].contiguous() for number in range(20)]
    found = setting.label(1000, images)
    assert found["chosen"] == "openvino"


def test_a_start_counts_as_much_longer_as_other_programs_slow_this_one(setting: Setting) -> None:
    setting.label(200)
    engine: Any = TimedEngine(setting.network, setting.clock, setting.seconds, {})
    backend = FastestBackend(
        engine,
        16,
        "fp32",
        network="tiny",
        table=setting.table,
        clock=setting.clock,
        cpu_clock=lambda: setting.clock.now / 4,
    )
    backend.expect(60)  # 30 s saved; a start of 8.5 s takes 34
    for _ in range(60):
        backend.hold()(IMAGE)
    assert backend.describe()["images"] == {}


def test_labels_are_those_of_the_backend_in_use(setting: Setting) -> None:
    setting.changes["openvino"] = lambda logits: logits * (1 + 1e-6)
    expected = setting.network.forward_cells(IMAGE).logits
    setting.label(200)
    assert torch.allclose(setting.backend(IMAGE).logits, expected, rtol=1e-4, atol=1e-5)
    assert not torch.equal(setting.backend(IMAGE).logits, expected)


def test_nothing_is_chosen_before_the_images_are_known(tiny_network: Segmenter, tmp_path: Path) -> None:
    engine = Engine(tiny_network, device="cpu")
    backend = FastestBackend(engine, 16, "fp32", network="tiny", table=FigureTable("a CPU", tmp_path))
    for _ in range(5):
        backend(IMAGE)
    assert backend.describe()["images"] == {}
    assert backend.label(IMAGE).shape == IMAGE.shape[:1] + IMAGE.shape[2:]


def test_architectures_are_told_apart_by_shapes_alone(tiny_network: Segmenter) -> None:
    name = name_architecture(tiny_network, "tiny")
    with torch.no_grad():
        tiny_network.head.classifier.weight.add_(1)
    assert name_architecture(tiny_network, "tiny") == name
    old = tiny_network.head.classifier
    tiny_network.head.classifier = torch.nn.Conv2d(old.in_channels, 7, 1)
    assert name_architecture(tiny_network, "tiny") != name


def test_a_figure_is_a_row_of_json(setting: Setting) -> None:
    setting.label(200)
    [figure] = setting.table.list_current()
    assert replace(figure) == figure
