"""`atrous` and torchvision on a CUDA device: the latency of one image, and training steps with either recipe.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --peak-tflops 989             # dense bf16 peak of the device; reports the share reached
    python benchmarks/gpu.py --batch 32 --compiled

`cuda_latency`: deeplabv3_resnet50 (21 classes, output stride 8), 513 x 513, one image from uint8 on the host to its
labels on the host, bf16. `cuda_training`: a training step of it at batch 16, see training.py. FLOPs are those of the
forward pass, plus twice as many for the backward pass; a multiply-add counts as two. Memory is the peak of a step on
the device above weights and momentum. Without a CUDA device, the script says so and stops.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import numpy as np
import torch
from harness import Side, parse_options, report, take_turns
from training import (
    NUM_CLASSES,
    build_own_step,
    build_plain_step,
    build_torchvision,
    convert_torchvision,
    draw_batch,
    normalise,
    require_equal_losses,
)

from atrous.core.inference_options import Opening
from atrous.core.labels import LabelSpace
from atrous.model import Model
from atrous.networks.model_card import ModelCard
from atrous.scoring.bench import draw_image, measure_peak_mib
from atrous.studies.cost import count_flops

BACKWARD = 2
"""Operations of the backward pass / operations of the forward pass."""


def build_latency_sides(size: int, device: torch.device) -> dict[str, Side]:
    """Return both candidates for the latency of one image."""
    image = draw_image(size, size)
    plain = build_torchvision().eval()
    space = LabelSpace(tuple(f"class {number}" for number in range(NUM_CLASSES)))
    network = convert_torchvision(plain).eval().requires_grad_(False)
    model = Model(network, ModelCard(model={}, label_space=space), Opening(device=str(device), precision="bf16"))
    labeller = model.build_labeller()
    plain = plain.to(device, memory_format=torch.channels_last)

    def label_plainly() -> np.ndarray:
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16):
            given = normalise(torch.from_numpy(image).permute(2, 0, 1)[None]).to(device)
            labels: np.ndarray = (
                plain(given.contiguous(memory_format=torch.channels_last))["out"].argmax(1)[0].cpu().numpy()
            )
            return labels

    return {
        "torchvision channels-last bf16": label_plainly,
        "atrous bf16": lambda: labeller.label_image(image, confidence=False)[0],
    }


def build_training_sides(options: argparse.Namespace, device: torch.device) -> dict[str, Callable[[], Side]]:
    """Return builders of the training steps; only one is on the device while its memory is measured."""
    pixels = draw_batch(options.batch, options.size)
    sides: dict[str, Callable[[], Side]] = {
        "torchvision": lambda: build_plain_step(build_torchvision(), pixels, device),
        "torchvision bf16": lambda: build_plain_step(build_torchvision(), pixels, device, bf16=True),
        "torchvision channels-last bf16": lambda: build_plain_step(
            build_torchvision(), pixels, device, channels_last=True, bf16=True
        ),
        "atrous bf16": lambda: build_own_step(convert_torchvision(build_torchvision()), pixels, device),
    }
    if options.compiled:
        sides["atrous bf16 compiled"] = lambda: build_own_step(
            convert_torchvision(build_torchvision()), pixels, device, compiled=True
        )
    return sides


def wait_for(run: Side, device: torch.device) -> Side:
    """Return a run that waits until the device has finished."""

    def waited() -> object:
        result = run()
        torch.cuda.synchronize(device)
        return result

    return waited


def measure_step(build: Callable[[], Side], device: torch.device, rounds: int) -> tuple[list[float], float | None]:
    """Return duration and memory of the steps of one candidate, and free the device afterwards."""
    run = wait_for(build(), device)
    seconds = take_turns({"": run}, rounds, warm_up=3)[""]
    peak = measure_peak_mib(run, device)
    del run
    torch.cuda.empty_cache()
    return seconds, peak


def main() -> None:
    """Run both tables."""
    options = parse_options(__doc__ or "", add_options)
    if not torch.cuda.is_available():
        print("no CUDA device found: nothing was measured")
        return
    device = torch.device("cuda")
    card = torch.cuda.get_device_name(device)
    require_equal_losses(min(options.size, 129), 2)
    sides = {name: wait_for(run, device) for name, run in build_latency_sides(options.size, device).items()}
    times = take_turns(sides, 5 * options.rounds, warm_up=5)
    context: dict[str, object] = {"card": card, "model": "deeplabv3_resnet50", "size": options.size}
    report("cuda_latency", context, times, reference="torchvision channels-last bf16", options=options)
    del sides
    step_flops = count_flops(convert_torchvision(build_torchvision()).eval(), options.size)
    step_flops *= options.batch * (1 + BACKWARD)
    # Only one candidate fits on the device at a time: they run one by one, and nothing else should use the device.
    times, more = {}, {}
    for name, build in build_training_sides(options, device).items():
        times[name], peak = measure_step(build, device, options.rounds)
        median = statistics.median(times[name])
        tflops = step_flops / median / 1e12
        more[name] = {
            "images_per_s": f"{options.batch / median:.4g}",
            "peak_mib": "" if peak is None else f"{peak:.0f}",
            "tflops": f"{tflops:.4g}",
            "share_of_peak": "" if options.peak_tflops is None else f"{tflops / options.peak_tflops:.3f}",
        }
    context["batch"] = options.batch
    report("cuda_training", context, times, reference="torchvision", options=options, more=more)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this script."""
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=513, help="side of images and crops in pixels")
    parser.add_argument("--peak-tflops", type=float, help="dense bf16 peak of the device")
    parser.add_argument("--compiled", action="store_true", help="also measure the step of atrous with training.compile")


if __name__ == "__main__":
    main()
