from __future__ import annotations

import os
import warnings

import pytest
import torch

from atrous.training.torch_state import restored_torch_state


def read_state() -> dict[str, object]:
    cudnn = torch.backends.cudnn
    return {
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "random": torch.random.get_rng_state().tolist(),
        "threads": torch.get_num_threads(),
        "matmul": torch.get_float32_matmul_precision(),
        "cudnn": (cudnn.enabled, cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32),
        "warnings": list(warnings.filters),
        "environment": dict(os.environ),
    }


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_the_callers_switches_are_restored_however_the_block_ends(deterministic, error):
    torch.use_deterministic_algorithms(not deterministic, warn_only=False)
    try:
        before = read_state()
        try:
            with restored_torch_state(deterministic=deterministic):
                assert torch.are_deterministic_algorithms_enabled() == deterministic
                torch.manual_seed(1)
                torch.set_num_threads(before["threads"] + 1)
                torch.set_float32_matmul_precision("medium")
                torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
                warnings.simplefilter("ignore")
                if error:
                    raise error
        except (ValueError, KeyboardInterrupt):
            pass
        assert read_state() == before
    finally:
        torch.use_deterministic_algorithms(False)
