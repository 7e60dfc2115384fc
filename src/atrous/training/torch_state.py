"""Global switches of PyTorch and Python that a training sets, put back when it ends."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def restored_torch_state(*, deterministic: bool) -> Iterator[None]:
    """Run a block with a training's global switches and restore the caller's afterwards, even after an exception.

    What is restored: the states of the random generators, deterministic algorithms, the number of threads, the switches
    of cuDNN and of float32 matrix products, and the filters of warnings.

    Args:
        deterministic: Whether PyTorch is told to use deterministic algorithms inside the block.
    """
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    warned_only = torch.is_deterministic_algorithms_warn_only_enabled()
    threads, matmul = torch.get_num_threads(), torch.get_float32_matmul_precision()
    cudnn = torch.backends.cudnn
    switches = cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    with warnings.catch_warnings(), torch.random.fork_rng(devices):
        try:
            torch.use_deterministic_algorithms(deterministic, warn_only=True)
            yield
        finally:
            torch.use_deterministic_algorithms(was_deterministic, warn_only=warned_only)
            torch.set_num_threads(threads)
            torch.set_float32_matmul_precision(matmul)
            cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32 = switches
