"""How long models take, side by side on this machine: all in turns, so that whatever else runs meets all of them."""

from __future__ import annotations

import ctypes
import gc
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from atrous.core.errors import UsageError
from atrous.core.files import load_json
from atrous.core.inputs import DTYPE_RANGES, PHOTO, ImageForm
from atrous.core.provenance import collect_provenance
from atrous.core.records import Progress, ProgressCallback
from atrous.core.words import describe_count
from atrous.data.contracts import SegmentationDataset
from atrous.inference.fastest import FastestBackend
from atrous.inference.figures import FigureTable, describe_conditions
from atrous.inference.labelling.labeller import Labeller
from atrous.inference.labelling.likeliest import name_last_stage
from atrous.inference.precision import describe_slow_precision
from atrous.metrics.confusion import compute_miou
from atrous.networks.device import count_threads
from atrous.scoring.count import count

WARM_UP_RUNS = 2
BLOB_PX = 16
LARGEST = 100_000
"""Longest side of an image that is timed, and the most rounds."""
MOST_MEMORY_RUNS = 5
MOST_RECLAIMED_KIB = 1024
"""A run in which the kernel took back more pages of mapped files than this is measured again: the highest mark counts
such pages too, and what they give up hides as much of what the run takes."""
_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class BenchRow:
    """What one model took under one protocol for images of one size.

    Args:
        model: As it was named.
        backend: What ran it, as it was asked for.
        output_stride: Input resolution / feature resolution.
        precision: fp32, bf16 or int8.
        height, width: Of the image, in pixels.
        median_s, least_s, most_s: Seconds from pixels in memory to labels in memory.
        images_per_s: One after another, at the median.
        peak_mib: The most that a run held above what was held before it; None where the system does not tell.
        miou: On the data that was given, or None.
    """

    model: str
    backend: str
    output_stride: int
    precision: str
    height: int
    width: int
    median_s: float
    least_s: float
    most_s: float
    images_per_s: float
    peak_mib: float | None
    miou: float | None


def bench(
    candidates: Sequence[tuple[str, str, Labeller]],
    sizes: Sequence[tuple[int, int]],
    *,
    rounds: int = 10,
    dataset: SegmentationDataset | None = None,
    progress: ProgressCallback | None = None,
) -> tuple[BenchRow, ...]:
    """Time every candidate at every size; Ctrl-C after the first size gives the rows of those that were finished.

    Args:
        candidates: Names of models and backends, and what labels with them; a model may appear with several.
        sizes: Heights and widths of the images, in pixels.
        rounds: Timed turns of each; two more warm up before.
        dataset: What to score the candidates on, or None.
        progress: Receives the progress.
    """
    mious = [
        None
        if dataset is None
        else compute_miou(count(labeller, dataset, detailed=False, progress=progress).total.counts)
        for _, _, labeller in candidates
    ]
    rows: list[BenchRow] = []
    for height, width in sizes:
        try:
            rows += _time_candidates(candidates, mious, height, width, rounds, progress)
        except KeyboardInterrupt:
            if not rows:
                raise
            break
    return tuple(rows)


def require_timeable(num_models: int, sizes: Sequence[tuple[int, int]], rounds: int) -> None:
    """Refuse to time nothing, or what would never end.

    Args:
        num_models: Number of models.
        sizes: Heights and widths of the images, in pixels.
        rounds: Timed turns of each.
    Raises:
        UsageError: A number is out of its range.
    """
    if (
        not sizes
        or not num_models
        or not all(1 <= n <= LARGEST for n in (rounds, *(n for size in sizes for n in size)))
    ):
        raise UsageError(
            f"{describe_count(num_models, 'model')}, sizes {list(sizes)}, rounds {rounds}",
            f"Each size and number is at least 1 and at most {LARGEST:,}.",
        )


def describe_rows(rows: Sequence[BenchRow], rounds: int, device: torch.device, num_wanted: int) -> dict[str, Any]:
    """Return the results of `bench` as strict JSON, with the machine, the versions and the figures of backends.

    Args:
        rows: The results.
        rounds: Timed turns of each.
        device: Where the first candidate computes.
        num_wanted: Number of rows if nothing was interrupted.
    """
    return {
        "rows": [{"name": row.model, **asdict(row)} for row in rows],
        "rounds": rounds,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "last_stage": name_last_stage(device),
        "interrupted": len(rows) < num_wanted,
        "figures": [asdict(figure) for figure in FigureTable(describe_conditions(count_threads())).list_current()],
        **collect_provenance(),
    }


def measure_figures(build: Callable[[], Labeller], sizes: Sequence[tuple[int, int]], backends: Sequence[str]) -> None:
    """Start and time backends that `FastestBackend` may choose, and keep the figures for later predictions.

    Args:
        build: Builds a labeller that may choose. Nothing is measured if it may not, or in a precision that is never
            chosen here.
        sizes: Heights and widths of the images, in pixels.
        backends: Names of the backends.
    """
    for height, width in sizes:
        labeller = build()
        fastest = labeller.backend
        precision = labeller.protocol.precision
        if not isinstance(fastest, FastestBackend) or describe_slow_precision(precision, fastest.device.type):
            return
        image = draw_image(height, width, labeller.form)
        fastest.try_all(backends)
        while not fastest.is_settled:
            labeller.label_image(image, confidence=False)


def _time_candidates(
    candidates: Sequence[tuple[str, str, Labeller]],
    mious: Sequence[float | None],
    height: int,
    width: int,
    rounds: int,
    progress: ProgressCallback | None,
) -> list[BenchRow]:
    """Time every candidate at one size."""
    images = {form: draw_image(height, width, form) for form in {labeller.form for _, _, labeller in candidates}}
    runs = [_build_run(labeller, images[labeller.form]) for _, _, labeller in candidates]
    for run in runs:
        for _ in range(WARM_UP_RUNS):
            run()
    peaks = [
        measure_peak_mib(run, labeller.backend.device) for run, (_, _, labeller) in zip(runs, candidates, strict=True)
    ]
    times = _take_turns(runs, rounds, f"{width} x {height}", progress)
    rows = []
    for (name, backend, labeller), miou, peak, seconds in zip(candidates, mious, peaks, times, strict=True):
        median = statistics.median(seconds)
        rows.append(
            BenchRow(
                name,
                backend,
                labeller.protocol.output_stride,
                labeller.protocol.precision,
                height,
                width,
                median,
                min(seconds),
                max(seconds),
                1 / median,
                peak,
                miou,
            )
        )
    return rows


def is_bench_file(path: Path) -> bool:
    """Return whether a file holds results of a bench."""
    try:
        content = load_json(path)
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and {"rows", "rounds", "machine"} <= set(content)


def draw_image(height: int, width: int, form: ImageForm = PHOTO) -> np.ndarray:
    """Return soft blobs of random values: labels with borders, but nothing to recognise.

    Args:
        height: Height in pixels.
        width: Width in pixels.
        form: Bands, type and range of values of the image.
    Shapes:
        out (H, W, C) in the form's type.
    """
    size = (height // BLOB_PX + 2, width // BLOB_PX + 2, form.channels)
    coarse = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    smooth = F.interpolate(
        torch.from_numpy(coarse).permute(2, 0, 1)[None].float(), size=(height, width), mode="bicubic"
    )  # (1, C, H, W)
    low, high = form.value_range
    values = smooth[0].permute(1, 2, 0).clamp(0, 255).numpy() * ((high - low) / 255) + low
    if form.dtype != "float32":
        values = values.round().clip(*DTYPE_RANGES[form.dtype])
    return np.ascontiguousarray(values.astype(form.dtype))


def _build_run(labeller: Labeller, image: np.ndarray) -> Callable[[], None]:
    def run() -> None:
        labeller.label_image(image, confidence=False)  # labels come to the CPU, so a GPU's work is in it

    return run


def _take_turns(
    runs: Sequence[Callable[[], None]], rounds: int, what: str, progress: ProgressCallback | None
) -> list[list[float]]:
    """Return the seconds of each run, turn by turn."""
    times: list[list[float]] = [[] for _ in runs]
    for turn in range(rounds):
        for seconds, run in zip(times, runs, strict=True):
            begun = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - begun)
        if progress is not None:
            progress(Progress("timing", turn + 1, rounds, what))
    return times


def measure_peak_mib(run: Callable[[], None], device: torch.device) -> float | None:
    """Return the most MiB that a call holds above what was held before it: of the GPU, or of the process on Linux.

    Args:
        run: The call.
        device: Where it computes.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        return float((torch.cuda.max_memory_allocated(device) - before) / 2**20)
    if sys.platform != "linux":
        return None
    peaks_mib = []
    for _ in range(MOST_MEMORY_RUNS):
        try:
            ctypes.CDLL(None).malloc_trim(0)  # else what earlier runs left unused is taken again and not seen
            _RESET.write_text("5", encoding="ascii")  # forgets the highest mark so far
        except (OSError, AttributeError):  # another C library, or a container that does not let it
            return None
        before_kib, files_kib = _read_status("VmRSS"), _read_status("RssFile")
        run()
        peaks_mib.append((_read_status("VmHWM") - before_kib) / 1024)
        if files_kib - _read_status("RssFile") < MOST_RECLAIMED_KIB:
            break
    return max(peaks_mib)


def _read_status(field: str) -> int:
    """Return a line of the kernel's table of this process, in KiB."""
    lines = _STATUS.read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1])
