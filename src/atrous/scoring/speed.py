"""How fast this machine is, in two seconds: its own rates, and what the default network makes of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from atrous.config.schema import ModelConfig
from atrous.images.decode import load_image
from atrous.images.encode import encode_jpeg
from atrous.inference.engine import Engine
from atrous.inference.precision import computes_bf16
from atrous.networks.build import build_network
from atrous.networks.device import count_threads
from atrous.scoring.bench import draw_image

SECONDS = 0.3
"""Duration of each of the measurements, at least."""
LEAST_TURNS = 3
MATRIX_SIDE = 1024
COPIED_MIB = 64
"""More than the caches of most CPUs hold."""
NUM_CLASSES, SIDE_PX, PHOTO_PX = 21, 513, (375, 500)


@dataclass(frozen=True)
class Speed:
    """Medians of repeated measurements on the CPU.

    Args:
        threads: Threads of PyTorch.
        fp32_gflops: Product of two matrices of 1,024 x 1,024 in fp32, in 10^9 operations per second; a multiply-add
            counts as two.
        one_thread_gflops: The same with one thread.
        bf16_gflops: The same in bf16 with all threads; None if the CPU has no instructions for it.
        copy_gb_per_s: Bytes read and written by a copy of 64 MiB, in 10^9 per second.
        network_s: Seconds for an image of 513 x 513 in the default network, PyTorch in fp32.
        network_gflops: Its operations per second, in 10^9.
        jpegs_per_s: JPEG photos of 500 x 375 that one thread decodes per second.
    """

    threads: int
    fp32_gflops: float
    one_thread_gflops: float
    bf16_gflops: float | None
    copy_gb_per_s: float
    network_s: float
    network_gflops: float
    jpegs_per_s: float


def measure_speed() -> Speed:
    """Measure the CPU, all threads that PyTorch has; takes two to three seconds."""
    operations = 2 * MATRIX_SIDE**3
    fp32 = operations / _time(_build_product(torch.float32))
    with _one_thread():
        one_thread = operations / _time(_build_product(torch.float32))
    bf16 = operations / _time(_build_product(torch.bfloat16)) if computes_bf16("cpu") else None
    source = torch.zeros(COPIED_MIB * 2**18)  # 4 bytes each
    target = torch.empty_like(source)
    copied = 2 * COPIED_MIB * 2**20 / _time(lambda: target.copy_(source))
    network_s, network_operations = _time_network()
    photo = encode_jpeg(draw_image(*PHOTO_PX))
    return Speed(
        threads=count_threads(),
        fp32_gflops=fp32 / 1e9,
        one_thread_gflops=one_thread / 1e9,
        bf16_gflops=None if bf16 is None else bf16 / 1e9,
        copy_gb_per_s=copied / 1e9,
        network_s=network_s,
        network_gflops=network_operations / network_s / 1e9,
        jpegs_per_s=1 / _time(lambda: load_image(photo)),
    )


@torch.inference_mode()
def _time_network() -> tuple[float, int]:
    """Return seconds and operations of the default network for one image; its weights are random."""
    model = ModelConfig()
    network = build_network(model, NUM_CLASSES).eval()
    image = torch.zeros(1, 3, SIDE_PX, SIDE_PX)
    with FlopCounterMode(display=False) as counter:
        network.forward_cells(image)
    backend = Engine(network, device="cpu", backend="torch").open_backend(model.output_stride, "fp32")
    return _time(lambda: backend(image)), int(counter.get_total_flops())


def _build_product(dtype: torch.dtype) -> Callable[[], object]:
    left, right = (torch.ones(MATRIX_SIDE, MATRIX_SIDE, dtype=dtype) for _ in range(2))
    return lambda: left @ right


def _time(run: Callable[[], object]) -> float:
    """Return the median of the seconds that a call takes, after one that is not counted."""
    run()
    seconds: list[float] = []
    while len(seconds) < LEAST_TURNS or sum(seconds) < SECONDS:
        begun = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
