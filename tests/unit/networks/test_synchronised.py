from __future__ import annotations

import pytest
import torch

import gloo


@pytest.mark.parametrize(
    ("key", "dtype", "tolerance"), [("norm", torch.float32, 1e-5), ("norm_bf16", torch.bfloat16, 0.02)]
)
def test_a_norm_over_two_processes_is_that_of_all_images_in_one(two_processes, key, dtype, tolerance):
    """The processes have different numbers of images, with another mean and spread in each."""
    alone = gloo.normalise(gloo.make_features(dtype))
    parts = [each[key] for each in two_processes]
    for name in ("out", "input"):
        found = torch.cat([part[name] for part in parts])
        torch.testing.assert_close(found, alone[name], atol=tolerance * alone[name].abs().max().item(), rtol=0)
    for name in ("weight", "bias"):  # each process has its own part of the sum, as DistributedDataParallel expects
        found = sum(part[name].float() for part in parts)
        expected = alone[name].float()
        torch.testing.assert_close(found, expected, atol=tolerance * expected.abs().max().item(), rtol=0)
    for part in parts:
        for name in ("mean", "var"):
            torch.testing.assert_close(part[name], alone[name], atol=tolerance, rtol=tolerance)
