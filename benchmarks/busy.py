"""How long waiting threads should spin: work on an idle machine and beside another program, for several bounds.

    python benchmarks/busy.py                               # an hour, on a machine with nothing else to do
    python benchmarks/busy.py --only train-lite0,crf --bounds default,400us,20us
    python benchmarks/busy.py --smoke                       # checks that the script runs

OpenMP reads its settings when it loads, so each figure is measured in a process of its own; the bounds take turns, and
so do the idle and the busy machine. A busy machine has one loop in Python beside the work. `default` is OpenMP without
a setting, `passive` sleeps at once, a time is that of the turns of GOMP_SPINCOUNT, whose length here, `turn_ns`, is
measured first. `of_quiet` is the speed beside the loop as a share of the same bound's on the idle machine.

Works: a training step of the default network (batch 8, 353 pixels) and of ResNet-50's (batch 2, 513 pixels), a
prediction of ResNet-50's (513 pixels), the dense CRF of 21 classes on 250 x 187 pixels. For comparison, as they are
installed: a training step and a prediction of torchvision's deeplabv3_resnet50, its prediction by OpenVINO,
pydensecrf2's marginals of the same image, and a training step of torchvision's mobilenet_v3_small (batch 8, 224
pixels).
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from densecrf import compute_probabilities, run_ours, run_peer
from harness import Side, parse_options, report
from inference import PLAIN, build_plain_sides, build_resnet50, build_runtime_sides
from training import (
    build_default_step,
    build_own_step,
    build_plain_step,
    build_torchvision,
    convert_torchvision,
    draw_batch,
)

import atrous
from atrous.core.spinning import OWN_SETTINGS, SETTING, count_turns, measure_pause_ns
from atrous.inference.precision import computes_bf16
from atrous.scoring.bench import draw_image

BOUNDS = ("default", "400us", "100us", "20us", "passive")
SECONDS = 8.0
"""Time for the repetitions in a process, but for the first two."""
CPU = torch.device("cpu")


def build_prediction() -> Side:
    """Return a prediction of ResNet-50's network."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.pth"
        torch.save(build_torchvision().state_dict(), path)
        model = atrous.load(path, precision="bf16" if computes_bf16("cpu") else "fp32")
    image = draw_image(513, 513)
    return lambda: model.predict(image)


def build_peer_prediction(name: str) -> Side:
    """Return a prediction of torchvision's network in PyTorch, or by OpenVINO, in the precision of ours."""
    plain, _ = build_resnet50()
    image = draw_image(513, 513)
    if name == PLAIN:
        return build_plain_sides(plain, image, own_statistics=False)[name]
    return build_runtime_sides(plain, image)[f"{name} {'bf16' if computes_bf16('cpu') else 'fp32'}"]


def build_crf(*, peer: bool) -> Side:
    """Return the dense CRF of an image, ours or pydensecrf2's."""
    image = draw_image(187, 250)
    probabilities = compute_probabilities(image[..., 0] // 12, seed=0)
    if peer:
        return lambda: run_peer(image, probabilities)
    return lambda: run_ours(image, probabilities, "cpu")


def build_mobilenet() -> Side:
    """Return a training step of torchvision's smallest classifier."""
    from torchvision.models import mobilenet_v3_small

    network = mobilenet_v3_small(weights=None)
    optimizer = torch.optim.SGD(network.parameters(), 0.01)
    images = torch.randn(8, 3, 224, 224)

    def step() -> None:
        optimizer.zero_grad()
        network(images).square().mean().backward()
        optimizer.step()

    return step


OWN: dict[str, Callable[[], Side]] = {
    "train-lite0": lambda: build_default_step(8, 353, CPU, compiled=False),
    "train-resnet50": lambda: build_own_step(convert_torchvision(build_torchvision()), draw_batch(2, 513), CPU),
    "predict-resnet50": build_prediction,
    "crf": lambda: build_crf(peer=False),
}
PEERS: dict[str, Callable[[], Side]] = {
    "train-resnet50-torchvision": lambda: build_plain_step(build_torchvision(), draw_batch(2, 513), CPU),
    "predict-resnet50-torchvision": lambda: build_peer_prediction(PLAIN),
    "predict-resnet50-openvino": lambda: build_peer_prediction("OpenVINO"),
    "crf-pydensecrf2": lambda: build_crf(peer=True),
    "mobilenet-torchvision": build_mobilenet,
}
WORKS = OWN | PEERS


def measure_here(work: str, seconds: float) -> float:
    """Return the median seconds of a work in this process."""
    run = WORKS[work]()
    run()
    run()
    times: list[float] = []
    while len(times) < 2 or sum(times) < seconds:
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def measure(work: str, bound: str, seconds: float) -> float:
    """Return the median seconds of a work in a process with a bound."""
    environment = {name: value for name, value in os.environ.items() if name not in OWN_SETTINGS}
    if bound == "passive":
        environment["OMP_WAIT_POLICY"] = bound
    elif bound != "default":
        environment[SETTING] = str(count_turns(float(bound.removesuffix("us"))))
    command = [sys.executable, __file__, "--work", work, "--seconds", str(seconds)]
    found = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return float(found.stdout.split()[-1])


@contextlib.contextmanager
def load(*, busy: bool) -> Iterator[None]:
    """Keep one core busy."""
    if not busy:
        yield
        return
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield
        finally:
            process.kill()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this script."""
    parser.add_argument("--only", default=",".join(WORKS), help=f"any of {', '.join(WORKS)}")
    parser.add_argument("--bounds", default=",".join(BOUNDS), help="default, passive, or a time such as 50us")
    parser.add_argument("--smoke", action="store_true", help="one work and two bounds, to test the script")
    parser.add_argument("--work", default="", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="least time of the runs in a process")


def main() -> None:
    """Measure every work with every bound."""
    options = parse_options(__doc__, add_options)
    if options.work:
        print(measure_here(options.work, options.seconds))
        return
    works, bounds = (["crf"], BOUNDS[:2]) if options.smoke else (options.only.split(","), options.bounds.split(","))
    seconds, rounds = (0.1, 1) if options.smoke else (options.seconds, options.rounds)
    turn_ns = f"{measure_pause_ns():.1f}"
    for work in works:
        times: dict[str, dict[str, list[float]]] = {"idle": {}, "busy": {}}
        for _, bound, machine in itertools.product(range(rounds), bounds, times):
            with load(busy=machine == "busy"):
                times[machine].setdefault(bound, []).append(measure(work, bound, seconds))
        for machine, found in times.items():
            quiet = {
                bound: statistics.median(times["idle"][bound]) / statistics.median(found[bound]) for bound in bounds
            }
            report(
                "busy",
                {"work": work, "machine": machine},
                found,
                reference=bounds[0],
                options=options,
                more={bound: {"of_quiet": f"{quiet[bound]:.3g}", "turn_ns": turn_ns} for bound in bounds},
            )


if __name__ == "__main__":
    main()
