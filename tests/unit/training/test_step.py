from __future__ import annotations

import torch

import gloo
from atrous.training.world import World


def test_the_gradient_of_two_processes_is_that_of_one_with_the_whole_batch(two_processes):
    """Batch norm sees the images of both, and the divisor counts the valid pixels of both, in both passes."""
    alone = gloo.compute_gradient(World.alone())
    for found in (each["step"] for each in two_processes):
        assert found["loss"] == torch.tensor(alone["loss"]).double().item() or abs(found["loss"] - alone["loss"]) < 1e-6
        assert found["gradient"].keys() == alone["gradient"].keys()
        for name, expected in alone["gradient"].items():
            torch.testing.assert_close(found["gradient"][name], expected, atol=1e-5, rtol=0, msg=name)
        for name, expected in alone["buffers"].items():
            torch.testing.assert_close(found["buffers"][name], expected, atol=1e-5, rtol=1e-5, msg=name)
    largest = max(gradient.abs().max().item() for gradient in alone["gradient"].values())
    assert largest > 0.01  # so that the tolerance means something


def test_two_processes_take_the_images_that_one_would_take(two_processes):
    alone = gloo.compute_gradient(World.alone())
    parts = [each["step"]["places"] for each in two_processes]
    assert (
        [first + second for first, second in zip(*parts, strict=True)]
        == alone["places"]
        == [
            (0, 1, 2, 3),
            (4, 5, 6, 7),
        ]
    )
