"""Our network and torchvision's on a CUDA card: an image's latency, and training steps by either recipe.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --peak-tflops 989             # of dense bf16, as the card's maker says: gives its share
    python benchmarks/gpu.py --batch 32 --compiled

`cuda_latency`: deeplabv3_resnet50 (21 classes, output stride 8), 513 x 513, one image from uint8 on the host to its
labels there, bf16. `cuda_training`: its training step at batch 16, see training.py. FLOPs are those of the forward pass
and twice as many backward, a multiply-add being two. Memory is what a step holds on the card above weights and
momentum. Without CUDA it says so.
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

from atrous.core.labels import LabelSpace
from atrous.model import Model
from atrous.networks.model_file import ModelCard
from atrous.scoring.bench import draw_image, measure_peak_mib
from atrous.studies.cost import count_flops

BACKWARD = 2
"""Operations of the backward pass / those of the forward pass."""


def build_latency_sides(size: int, device: torch.device) -> dict[str, Side]:
    """Return both ways from an image to its labels."""
    image = draw_image(size, size)
    plain = build_torchvision().eval()
    space = LabelSpace(tuple(f"class {number}" for number in range(NUM_CLASSES)))
    network = convert_torchvision(plain).eval().requires_grad_(False)
    model = Model(network, ModelCard(model={}, label_space=space), device=str(device))
    predictor = model.build_predictor(precision="bf16")
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
        "atrous bf16": lambda: predictor.label_image(image, confidence=False)[0],
    }


def build_training_sides(options: argparse.Namespace, device: torch.device) -> dict[str, Callable[[], Side]]:
    """Return what builds the steps; one at a time lies on the card while its memory is measured."""
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
    """Return a run that ends when the card has done its work."""

    def waited() -> object:
        result = run()
        torch.cuda.synchronize(device)
        return result

    return waited


def measure_step(build: Callable[[], Side], device: torch.device, rounds: int) -> tuple[list[float], float | None]:
    """Return seconds and memory of one side's steps, which leave nothing on the card."""
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
        print("there is no CUDA device here: nothing was measured")
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
    # A card holds one side's steps at a time: the sides follow each other, and nothing else should run on the card.
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
    """Add this script's own options."""
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=513, help="side of images and crops in pixels")
    parser.add_argument("--peak-tflops", type=float, help="the card's dense bf16 peak")
    parser.add_argument("--compiled", action="store_true", help="our step with training.compile too")


if __name__ == "__main__":
    main()
