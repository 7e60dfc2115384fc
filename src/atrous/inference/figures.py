"""Measured speeds of backends on this machine, kept in the user's cache folder from one call to the next."""

from __future__ import annotations

import math
import platform
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Any

from atrous.core.cache_folder import find_cache_folder
from atrous.core.errors import AtrousError
from atrous.core.files import load_json, save_json
from atrous.core.machine import find_cpu_kind
from atrous.core.provenance import describe_machine

FILE_NAME = "backends.json"
MOST_FIGURES = 200
"""Figures that are kept, the newest ones."""
MOST_DAYS = 30
"""Age of a figure from which on it is measured again: the machine may have changed in ways that no version tells."""
MOST_SLOWNESS = 1.2
"""A figure of a slower measurement comes from a busy machine, where other programs may have met one backend alone."""
MOST_BUSY_DAYS = 1
"""Age from which on such a figure is measured again."""
MOST_SIZE_RATIO = 4.0
"""Largest ratio of the sizes of two images of which one figure holds: rates per pixel change little with the size."""
_PACKAGES = ("atrous", "torch", "onnx", "onnxruntime", "openvino")


@dataclass(frozen=True)
class Figure:
    """What was measured of one backend beside torch, with one network.

    Args:
        machine: Processor, threads and versions, see `describe_conditions`.
        network: The network's name with a digest of its architecture.
        output_stride: Input resolution / feature resolution.
        precision: fp32 or bf16.
        backend: The backend.
        megapixels: Size of the images that went through the network.
        torch_s, backend_s: Seconds for each megapixel of the network's input.
        convert_s: Seconds in which the network is converted to a graph where no other program shares the cores.
        open_s: Likewise, seconds in which the runtime is imported and the graph opened, the first image included.
        measured: Time of the measurement in ISO format, in UTC.
        slowness: How many times as long the measurement took as its own threads computed: above 1 where other programs
            shared the cores.
    """

    machine: str
    network: str
    output_stride: int
    precision: str
    backend: str
    megapixels: float
    torch_s: float
    backend_s: float
    convert_s: float
    open_s: float
    measured: str
    slowness: float = 1.0

    @property
    def days(self) -> float:
        """How long the figure holds."""
        return MOST_DAYS if self.slowness <= MOST_SLOWNESS else MOST_BUSY_DAYS

    @property
    def ratio(self) -> float:
        """Time of the backend as a share of torch's."""
        return self.backend_s / self.torch_s

    @property
    def key(self) -> tuple[object, ...]:
        """What tells figures apart that do not replace each other."""
        size = round(math.log2(self.megapixels))
        return self.machine, self.network, self.output_stride, self.precision, self.backend, size


def describe_conditions(threads: int) -> str:
    """Return what speeds depend on besides the network: processor, its kernels, threads, versions of the packages.

    Args:
        threads: Threads on which backends compute.
    """
    versions = []
    for name in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions.append(f"{name} {metadata.version(name)}")
    processor = describe_machine()["processor"] or platform.machine()
    processor = f"{processor} ({find_cpu_kind()})"  # the environment can limit its kernels
    return f"{processor}, threads {threads}, python {platform.python_version()}, {', '.join(versions)}"


def read_clock() -> str:
    """Return the time as figures have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class FigureTable:
    """The figures of this user on this machine, in a file. Nothing that goes wrong with the file stops the caller.

    Args:
        machine: What speeds depend on, see `describe_conditions`; figures of other conditions are kept, not used.
        folder: Where the file is. Default: `find_cache_folder()`.
        is_blank: Whether no figure is found, so that each is measured again.
    """

    def __init__(self, machine: str, folder: Path | None = None, *, is_blank: bool = False) -> None:
        self.machine = machine
        self.folder = folder or find_cache_folder()
        self._is_blank = is_blank
        self._path = None if self.folder is None else self.folder / FILE_NAME

    def list_current(self) -> list[Figure]:
        """Return the figures of this machine that are not too old, oldest first."""
        if self._is_blank:
            return []
        now = datetime.now(UTC)
        found = (figure for figure in self._read() if figure.machine == self.machine)
        return [
            figure
            for figure in found
            if now - timedelta(days=figure.days) <= datetime.fromisoformat(figure.measured) <= now
        ]

    def find(self, network: str, output_stride: int, precision: str, backend: str, megapixels: float) -> Figure | None:
        """Return the figure of a backend for images of about this size; None if it was not measured.

        Args:
            network: The network's name and digest.
            output_stride: Input resolution / feature resolution.
            precision: fp32 or bf16.
            backend: The backend.
            megapixels: Size of the images that go through the network.
        """
        wanted = network, output_stride, precision, backend
        same = [
            figure
            for figure in self.list_current()
            if (figure.network, figure.output_stride, figure.precision, figure.backend) == wanted
        ]
        distances = {abs(math.log(figure.megapixels / megapixels)): figure for figure in same}
        nearest = min(distances, default=math.inf)
        return distances[nearest] if nearest <= math.log(MOST_SIZE_RATIO) else None

    def add(self, figure: Figure) -> None:
        """Keep a figure; it replaces an older one of the same conditions."""
        if self._path is None:
            return
        kept = [each for each in self._read() if each.key != figure.key]
        rows = [asdict(each) for each in (*kept, figure)][-MOST_FIGURES:]
        with suppress(OSError, AtrousError):
            save_json(self._path, {"figures": rows})

    def _read(self) -> list[Figure]:
        if self._path is None:
            return []
        try:
            rows: list[dict[str, Any]] = load_json(self._path)["figures"]
            return [figure for figure in (Figure(**row) for row in rows) if _is_sound(figure)]
        except (OSError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError):
            return []  # damaged, or of another version


def _is_sound(figure: Figure) -> bool:
    """Return whether a row holds what it should; raises ValueError or TypeError for values of another type."""
    rates = figure.megapixels, figure.torch_s, figure.backend_s, figure.slowness
    start = figure.convert_s, figure.open_s
    is_dated = datetime.fromisoformat(figure.measured).tzinfo is not None
    is_finite = all(math.isfinite(number) for number in (*rates, *start))
    return is_dated and is_finite and all(rate > 0 for rate in rates) and sum(start) >= 0
