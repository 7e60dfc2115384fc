"""The backend that finishes many images first: found while they are labelled, and with figures of earlier calls.

The first images are labelled by torch, whose time per image is then known. Another backend has to be started, which
takes seconds: it is when the images to come would take longer without it. It labels what torch labels too, and is
dropped if its results differ; what it then needs for a few images is compared with torch.
"""

from __future__ import annotations

import hashlib
import importlib.util
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from atrous.core.errors import AtrousError, MemoryShort
from atrous.core.records import MessageCallback, Note, send_message
from atrous.core.system_errors import describe_reason
from atrous.core.words import describe_count
from atrous.inference import BACKENDS
from atrous.inference.agreement import describe_difference
from atrous.inference.contracts import Backend, LiveBackend, StandIn
from atrous.inference.engine import GRAPH_SUFFIX, Engine
from atrous.inference.figures import Figure, FigureTable, read_clock
from atrous.networks.contracts import Cells
from atrous.networks.segmenter import Segmenter

NUM_TIMED = 3
"""Images of which a rate is the median; each backend's first image, and the first of each size, warm up."""
MOST_TRIED = 6
"""Images after which a backend is judged even if no two have had the same size."""
START_S = 10.0
"""Seconds of conversion and opening where none was measured: about those of a network of 5 million weights."""
SAFE_WORK = 10.0
"""Work left, in times of a start, from which on a backend is tried without figures: it then costs at most a tenth."""
_ENDLESS = 10**9
"""Images for which every start would pay."""
_CONVERTING = ("onnx", "onnxscript")
"""Packages that convert a network."""
LEAST_SAVED = 0.05
"""Share of the time left that a start must be expected to save."""


@dataclass
class _Side:
    """A backend that labels, and what it took.

    Args:
        name: The backend's name.
        backend: It.
        calls: Shape, pixels and seconds of each call.
        num_images: Images that it labelled.
        convert_s, open_s: Seconds of its start.
    """

    name: str
    backend: LiveBackend
    calls: list[tuple[torch.Size, int, float]] = field(default_factory=list)
    num_images: int = 0
    convert_s: float = 0.0
    open_s: float = 0.0

    def measure(self) -> float | None:
        """Return seconds a pixel of the network's input; None if more images are needed to know."""
        shapes = [shape for shape, _, _ in self.calls]
        rates = [seconds / pixels for _, pixels, seconds in self.calls]
        warm = [rate for number, rate in enumerate(rates) if shapes[number] in shapes[:number]]
        if len(warm) >= NUM_TIMED:
            return statistics.median(warm)
        return statistics.median(rates[1:]) if self.num_images >= MOST_TRIED else None


class _Look(StandIn):
    """What labels one image: the backend that was the best when the image's turn came.

    Args:
        owner: What chooses, and times.
        side: What labels the image.
        checked: What labels it too, to be compared; None: nothing.
    """

    def __init__(self, owner: FastestBackend, side: _Side, checked: _Side | None) -> None:
        super().__init__(owner)
        self.side = side
        self.checked = checked
        self.held = side.backend.hold()
        self.was_used = False
        self._owner = owner

    def __call__(self, images: Tensor) -> Cells:
        """Run the network on a batch of images; see `Backend`."""
        return self._owner.run(self, images)

    def label(self, images: Tensor) -> Tensor:
        """Return the likeliest class of each pixel; see `Backend`."""
        return self.held.label(images)

    def measure_bytes_per_pixel(self) -> float:
        """Return the bytes of memory that a forward pass needs per pixel of the image."""
        return self.held.measure_bytes_per_pixel()


class FastestBackend(StandIn):
    """A backend that labels each image with the fastest of those that are installed and give torch's labels.

    It is torch until `expect` says how many images come. The choice is made once, and `describe` tells it. 8-bit
    arithmetic and compilation for this machine are never chosen: the first changes labels, the second takes minutes.

    Args:
        engine: The network with torch.
        output_stride: Input resolution / feature resolution.
        precision: fp32 or bf16.
        network: The network's name and a digest of its architecture, for the table.
        table: Figures of earlier calls.
        on_message: Receives what was chosen and why, as a note.
        clock: Returns the seconds.
        cpu_clock: Returns the seconds for which the calling thread had a core.
    """

    def __init__(
        self,
        engine: Engine,
        output_stride: int,
        precision: str,
        *,
        network: str,
        table: FigureTable,
        on_message: MessageCallback | None = None,
        clock: Callable[[], float] = time.perf_counter,
        cpu_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        self._best = self._torch = _Side(engine.backend, engine.open_backend(output_stride, precision))
        super().__init__(self._torch.backend)
        self._engine = engine
        self._key = network, output_stride, precision
        self._table = table
        self._on_message = on_message
        self._clock, self._cpu_clock = clock, cpu_clock
        self._torch_s, self._torch_cpu_s = 0.0, 0.0
        self._lock = threading.RLock()
        able = [name for name in list_installed() if precision == "fp32" or name in BACKENDS.find_tagged(precision)]
        self._untried = able if engine.device.type == "cpu" else []
        self._rival: _Side | None = None
        self._expected: int | None = None
        self._is_checked = self._is_settled = False
        self._reason = "" if self._untried else "no other backend can be used here"
        self._figures: list[Figure] = []
        self._problems: list[str] = []
        self._convert_s: float | None = None
        self._sides = [self._torch]

    def expect(self, num_images: int) -> None:
        """Take the number of images that will be labelled; nothing is chosen before.

        Args:
            num_images: The number.
        """
        self._expected = num_images
        if self._untried and num_images <= 1 + NUM_TIMED:
            self._reason = f"{describe_count(num_images, 'image')}: too few for another backend to pay"
            self._untried = []
        self._is_settled = not self._untried

    def try_all(self, backends: Sequence[str]) -> None:
        """Have backends started and timed by the images that follow, whatever it costs and was measured before.

        Args:
            backends: Their names; those that cannot be chosen are skipped.
        """
        self._untried = [name for name in self._untried if name in backends]
        self._expected, self._is_settled = _ENDLESS, not self._untried
        self._table = FigureTable(self._table.machine, self._table.folder, is_blank=True)

    @property
    def is_settled(self) -> bool:
        """Whether the choice is made, so that no other backend will be started."""
        return self._is_settled

    def describe(self) -> dict[str, Any]:
        """Return what was chosen, why, how many images each backend labelled, and the figures, as strict JSON."""
        return {
            "chosen": self._best.name,
            "reason": self._reason or "the images ended before another backend could pay",
            "images": {side.name: side.num_images for side in self._sides if len(self._sides) > 1},
            "problems": list(self._problems),
            "figures": [vars(figure) for figure in self._figures],
        }

    def hold(self) -> Backend:
        """Return a backend for one image; see `LiveBackend`. Between two images another backend may be started."""
        with self._lock:
            if self._expected is not None and not self._is_settled:
                self._advance()
            if self._rival is not None and self._is_checked:
                return _Look(self, self._rival, None)
            side = self._best if self._rival is None else self._torch  # what is compared with
            return _Look(self, side, self._rival)

    def __call__(self, images: Tensor) -> Cells:
        """Run the network on a batch of images; see `Backend`."""
        return self.hold()(images)

    def label(self, images: Tensor) -> Tensor:
        """Return the likeliest class of each pixel; see `Backend`."""
        return self.hold().label(images)

    def measure_bytes_per_pixel(self) -> float:
        """Return the bytes of memory that a forward pass needs per pixel of the image."""
        return self._torch.backend.measure_bytes_per_pixel()

    def run(self, look: _Look, images: Tensor) -> Cells:
        """Run the network for an image, and time it.

        Args:
            look: What labels the image.
            images: See `Backend`.
        Shapes:
            in (B, C, H, W), see `Backend`; out cells with logits (B, K, h, w).
        """
        with self._lock:
            look.side.num_images += not look.was_used
            look.was_used = True
            try:
                cells = self._time(look.side, look.held, images)
            except MemoryShort:  # the image is labelled in windows then
                raise
            except AtrousError as error:
                if look.side is self._torch:
                    raise
                self._drop(look.side, f"failed: {error.message}")
                look.side, look.held = self._torch, self._torch.backend.hold()
                cells = self._time(look.side, look.held, images)
            if look.checked is not None and look.checked is self._rival:
                self._check(look.checked, images, cells)
            return cells

    def _time(self, side: _Side, backend: Backend, images: Tensor) -> Cells:
        begun, begun_cpu = self._clock(), self._cpu_clock()
        cells = backend(images)
        if not self._is_settled:
            seconds = self._clock() - begun
            side.calls.append((images.shape, images.shape[0] * images.shape[2] * images.shape[3], seconds))
            if side is self._torch:
                self._torch_s += seconds
                self._torch_cpu_s += self._cpu_clock() - begun_cpu
        return cells

    def _check(self, rival: _Side, images: Tensor, expected: Cells) -> None:
        """Compare what a backend that has just started gives for an image; it is dropped if it differs from torch."""
        try:
            found = self._time(rival, rival.backend.hold(), images)
            exact = expected
            if self._key[2] != "fp32":  # rounding differs: both are compared with what is exact
                exact = self._engine.open_backend(self._key[1], "fp32")(images)
        except AtrousError as error:
            self._drop(rival, f"failed: {error.message}")
            return
        if problem := describe_difference(found.logits, expected.logits, exact.logits):
            self._drop(rival, problem)
        else:
            self._is_checked = True

    def _advance(self) -> None:
        """Judge a backend that is being tried, start another one if that pays, or settle."""
        if self._rival is not None and self._is_checked:
            if self._rival.measure() is None:
                return
            self._judge(self._rival)
        rate = self._best.measure()
        if rate is None or self._rival is not None:
            return
        while (name := self._choose_next(rate)) is not None:
            self._untried.remove(name)
            if self._start(name):
                return
        self._settle()

    def _judge(self, rival: _Side) -> None:
        """Keep a backend that was tried if it is faster, and note its figure."""
        own, other = rival.measure(), self._best.measure()
        base = self._torch.measure()
        if own is None or other is None or base is None:
            return
        network, output_stride, precision = self._key
        figure = Figure(
            machine=self._table.machine,
            network=network,
            output_stride=output_stride,
            precision=precision,
            backend=rival.name,
            megapixels=self._measure_pixels() / 1e6,
            torch_s=base * 1e6,
            backend_s=own * 1e6,
            convert_s=rival.convert_s / self._measure_slowness(),
            open_s=(rival.open_s + rival.calls[0][2]) / self._measure_slowness(),
            measured=read_clock(),
            slowness=self._measure_slowness(),
        )
        self._table.add(figure)
        self._figures.append(figure)
        self._best = rival if own < other else self._best
        self._rival, self._is_checked = None, False

    def _choose_next(self, rate: float) -> str | None:
        """Return the backend whose start is expected to pay the most; None if none is.

        Args:
            rate: Seconds a pixel of the best backend so far.
        """
        base = self._torch.measure() or rate
        work = self._count_left() * self._measure_pixels()
        unknown, totals = [], {}
        for name in self._untried:
            figure = self._find_figure(name)
            if figure is None:
                unknown.append(name)
            else:
                totals[name] = self._estimate_start(figure) + work * base * figure.ratio
        best = min(totals, key=lambda name: totals[name], default=None)
        if best is not None and totals[best] < (1 - LEAST_SAVED) * work * rate:
            return best
        return next((name for name in unknown if work * rate >= SAFE_WORK * self._guess_start(name)), None)

    def _start(self, name: str) -> bool:
        """Convert the network and open it in a backend; return whether that worked."""
        send_message(self._on_message, f"converting the network for {name}")
        _, output_stride, precision = self._key
        begun = self._clock()
        try:
            engine = self._engine.share(name)
            imported = self._clock()
            engine.convert(output_stride, precision)
            converted = self._clock()
            side = _Side(name, engine.open_backend(output_stride, precision))
        except Exception as error:  # each runtime raises its own errors, also where it is imported
            self._say_unusable(name, f"cannot be started: {describe_reason(error)}")
            return False
        self._convert_s = converted - imported if self._convert_s is None else self._convert_s
        side.convert_s, side.open_s = self._convert_s, imported - begun + self._clock() - converted
        self._sides.append(side)
        self._rival, self._is_checked = side, False
        return True

    def _drop(self, side: _Side, problem: str) -> None:
        """Use a backend no more, in this call."""
        self._rival = None if self._rival is side else self._rival
        self._best = self._torch if self._best is side else self._best
        self._say_unusable(side.name, problem)

    def _say_unusable(self, name: str, problem: str) -> None:
        note = Note("backend-dropped", f"backend {name} is not used: it {problem}")
        send_message(self._on_message, note)
        self._problems.append(str(note))

    def _settle(self) -> None:
        """End the choice, and say what labels the images that are left."""
        self._is_settled = True
        self._reason = self._explain()
        if (self._expected or 0) < _ENDLESS:
            message = f"backend {self._best.name} for {describe_count(self._count_left(), 'image')} to come"
            send_message(self._on_message, Note("backend", f"{message}: {self._reason}"))

    def _explain(self) -> str:
        pixels = self._measure_pixels()
        rates = {side.name: rate for side in self._sides if (rate := side.measure()) is not None}
        words = [f"{name} takes {_describe_seconds(rate * pixels)}" for name, rate in rates.items()]
        for name in self._untried:
            figure = self._find_figure(name)
            if figure is None:
                words.append(f"{name} was not measured here, and starting it would take longer than it could save")
            else:
                image_s = figure.ratio * (self._torch.measure() or 0.0) * pixels
                start = _describe_seconds(self._estimate_start(figure))
                words.append(f"{name} would take {_describe_seconds(image_s)} after a start of {start}")
        return f"per image, {', '.join(words)}"

    def _find_figure(self, name: str) -> Figure | None:
        network, output_stride, precision = self._key
        return self._table.find(network, output_stride, precision, name, self._measure_pixels() / 1e6)

    def _estimate_start(self, figure: Figure) -> float:
        seconds = figure.open_s + (figure.convert_s if self._convert_s is None else 0.0)
        return seconds * self._measure_slowness()

    def _measure_slowness(self) -> float:
        """Return how many times as long work takes now as on an idle machine: other programs share the cores."""
        return max(self._torch_s / self._torch_cpu_s, 1.0) if self._torch_cpu_s > 0 else 1.0

    def _guess_start(self, name: str) -> float:
        """Return the seconds of a start where none was measured with this network: the longest with another one."""
        known = [figure for figure in self._table.list_current() if figure.backend == name]
        return max((self._estimate_start(each) for each in known), default=START_S * self._measure_slowness())

    def _measure_pixels(self) -> float:
        """Return the pixels that go through the network for an image, all windows and scales together."""
        return sum(pixels for _, pixels, _ in self._torch.calls) / max(self._torch.num_images, 1)

    def _count_left(self) -> int:
        return max((self._expected or 0) - sum(side.num_images for side in self._sides), 0)


def list_installed() -> list[str]:
    """Return the backends that run converted networks, as far as what they need is installed; nothing is imported."""
    names = [name for name in BACKENDS.find_tagged(GRAPH_SUFFIX) if name not in BACKENDS.find_tagged("network")]
    # Such a backend has the name of its runtime's package.
    return [name for name in names if all(importlib.util.find_spec(each) for each in (name, *_CONVERTING))]


def name_architecture(network: Segmenter, name: str) -> str:
    """Return a network's name with a digest of the shapes of its tensors, whatever their values.

    Args:
        network: The network.
        name: Its name.
    """
    shapes = repr([(key, tuple(value.shape)) for key, value in network.state_dict().items()])
    return f"{name} {hashlib.sha256(shapes.encode()).hexdigest()[:8]}"


def _describe_seconds(seconds: float) -> str:
    return f"{1e3 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
