from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from atrous.config.schema import ModelConfig
from atrous.core.errors import MachineError
from atrous.inference.memory import (
    LARGEST_WINDOW,
    SMALLEST_WINDOW,
    WORKSPACE_FACTOR,
    choose_window,
    count_fitting_pixels,
    measure_bytes_per_pixel,
)
from atrous.networks.build import build_network

CPU = torch.device("cpu")

MEASURE_PEAK = """
import resource, sys, torch
from atrous.config.schema import ModelConfig
from atrous.inference.memory import measure_bytes_per_pixel
from atrous.networks.build import build_network
torch.set_num_threads(1)
name, stride, side = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
network = build_network(ModelConfig(name=name, weights="none", output_stride=stride), 21).eval()
network = network.to(memory_format=torch.channels_last)
estimate = measure_bytes_per_pixel(network, torch.device("cpu")) * side * side
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
with torch.inference_mode():
    network.forward_cells(torch.zeros(1, 3, side, side, dtype=torch.uint8))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before, estimate)
"""


def test_a_whole_image_that_fits_needs_no_window() -> None:
    assert choose_window(1000, 1000, 1_000_000) is None
    assert choose_window(1000, 1001, 1_000_000) is not None


@pytest.mark.parametrize("fitting", [129**2, 200_000, 400_000, 10**7])
def test_the_window_fits_and_is_a_multiple_of_32_plus_1(fitting: int) -> None:
    window = choose_window(10_000, 10_000, fitting)
    assert window is not None
    assert window % 32 == 1
    assert SMALLEST_WINDOW <= window <= LARGEST_WINDOW
    assert window**2 <= fitting
    assert window == LARGEST_WINDOW or (window + 32) ** 2 > fitting


def test_too_little_memory_says_what_to_do() -> None:
    with pytest.raises(MachineError, match="larger output stride") as caught:
        choose_window(500, 500, 128**2)
    assert caught.value.exit_code == 5


def test_larger_scales_need_more_memory_and_smaller_ones_do_not_need_less() -> None:
    one = count_fitting_pixels(1.0, 1024.0, 1000)
    assert one == 1000 * 1024
    assert count_fitting_pixels(2.0, 1024.0, 1000) == one // 4
    assert count_fitting_pixels(0.5, 1024.0, 1000) == one


def test_smaller_strides_need_more_memory() -> None:
    network = build_network(ModelConfig(name="fcn-resnet18", weights="none"), 5).eval()
    needs = []
    for stride in (32, 16, 8, 4):
        network.output_stride = stride
        needs.append(measure_bytes_per_pixel(network, CPU))
    assert needs == sorted(needs)
    # the stem alone: 64 channels of float32 at half the resolution, before and after its norm, are alive at once
    assert needs[0] > WORKSPACE_FACTOR * 2 * 64 * 4 / 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stride", "side"),
    [
        ("deeplabv3-lite0", 16, 1025),
        ("deeplabv3-lite0", 8, 1025),
        ("deeplabv3-resnet50", 8, 769),
        ("fcn-resnet18", 16, 1025),
    ],
)
def test_the_estimate_is_above_the_measured_peak_and_not_far_above(name: str, stride: int, side: int) -> None:
    command = [sys.executable, "-c", MEASURE_PEAK, name, str(stride), str(side)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    peak, estimate = map(float, output.split())
    assert peak < estimate < 5 * peak
