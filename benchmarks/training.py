"""Training steps, losses and scores compared with other tools on the same data, in turns, in one process.

    python benchmarks/training.py
    python benchmarks/training.py --tables loss,confusion --rounds 20
    python benchmarks/training.py --allocator tuned         # glibc keeps freed memory
    python benchmarks/training.py --smoke                   # small sizes: checks that the script runs

`training_resnet50`: a step of torchvision's deeplabv3_resnet50 (21 classes, output stride 8), batch 2, 513 x 513, with
torchvision's recipe (F.interpolate inside the model, cross_entropy; SGD with momentum) and with `atrous` on the same
weights. Before that, both losses are compared in fp32: on this batch with frozen norms, and in training mode on four
images, because `atrous` does not normalise image-level features over two values. Torchvision's images are normalised
beforehand, those of `atrous` within the network.
`loss`: upsampling and loss only, forward and backward, fp32.
`training_default`: a step of the default network, batch 8, and of segmentation_models_pytorch's DeepLabV3 with the same
encoder, at an equal number of cells in the last map. Each tool trains its own network: theirs has an additional 3x3
convolution and no sigmoid; columns give parameters and GFLOPs of the forward pass of one image. `atrous` pads 337
pixels to 353.
`weight_gradient`: the weight gradient of an atrous convolution only, 2048 to 256 channels on 65 x 65 cells, batch 2.
`confusion`: counting an image of the size of Cityscapes with ignored pixels, compared with torchmetrics. argmax returns
int64; predictions of `atrous` are uint16.

A step consists of forward pass, loss, backward pass, clipping (`atrous` only) and optimiser step. Memory is the peak of
a run above the memory in use before it (weights and momentum), measured in a separate process with the same allocator.
segmentation_models_pytorch and torchmetrics are skipped if they are not installed.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib.util
import itertools
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from harness import Side, parse_options, report, take_turns
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import atrous
from atrous.config.schema import Config, OutputConfig, TrainingConfig
from atrous.core.labels import IGNORE_INDEX
from atrous.losses.contracts import count_weight
from atrous.losses.cross_entropy import CrossEntropy
from atrous.metrics.confusion import ConfusionMatrix
from atrous.networks.contracts import Geometry
from atrous.networks.layers.conv import Conv
from atrous.networks.segmenter import Segmenter
from atrous.scoring.bench import draw_image, measure_peak_mib
from atrous.training.compilation import compile_cells
from atrous.training.norm import start_training
from atrous.training.optimizers import build_optimizer
from atrous.training.prepare import build_fabric
from atrous.training.task import TrainingTask

NUM_CLASSES = 21
BLOCK_PX = 32
LR, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 1e-4
MOST_LOSS_DIFFERENCE = 1e-4
Pixels = tuple[Tensor, Tensor]
"""Images (B, 3, H, W) uint8 and labels (B, H, W) int64."""


@dataclasses.dataclass(frozen=True)
class Case:
    """Candidates that are compared with each other.

    Args:
        table: Name of the table.
        context: Conditions shared by all candidates.
        sides: Builders of the candidates, the reference first.
        more: Further columns by candidate.
        check: Raises an error if the candidates compute different results.
        has_memory: Whether to measure memory.
    """

    table: str
    context: dict[str, object]
    sides: dict[str, Callable[[], Side]]
    more: dict[str, dict[str, object]] = dataclasses.field(default_factory=dict)
    check: Callable[[], None] = lambda: None
    has_memory: bool = True


def draw_batch(batch: int, size: int, num_classes: int = NUM_CLASSES) -> Pixels:
    """Return images of coloured blobs, and blocks of labels surrounded by ignored pixels."""
    images = torch.from_numpy(draw_image(size, size)).permute(2, 0, 1).expand(batch, -1, -1, -1)
    blocks = size // BLOCK_PX + 1
    labels = torch.randint(num_classes, (batch, blocks, blocks), generator=torch.Generator().manual_seed(0))
    labels = labels.repeat_interleave(BLOCK_PX, dim=1).repeat_interleave(BLOCK_PX, dim=2)[:, :size, :size].contiguous()
    labels[:, :4] = labels[:, :, :4] = IGNORE_INDEX
    return images.contiguous(), labels


def normalise(images: Tensor) -> Tensor:
    """Normalise images with ImageNet's statistics."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (images / 255 - mean) / std


def build_plain_step(
    network: nn.Module, pixels: Pixels, device: torch.device, *, channels_last: bool = False, bf16: bool = False
) -> Side:
    """Return a step as in torchvision's reference and smp's examples; the network returns full-resolution logits."""
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    network = network.train().to(device, memory_format=memory_format)
    images = normalise(pixels[0]).to(device).contiguous(memory_format=memory_format)
    labels = pixels[1].to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)

    def step() -> float:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = compute_plain_loss(network, images, labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()  # here, so that no candidate holds gradients before or during the forward pass
        return float(loss.item())

    return step


def compute_plain_loss(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of full-resolution logits."""
    logits = network(images)
    logits = logits["out"] if isinstance(logits, Mapping) else logits
    return F.cross_entropy(logits, labels, ignore_index=IGNORE_INDEX)


def build_own_step(
    network: Segmenter, pixels: Pixels, device: torch.device, *, bf16: bool = True, compiled: bool = False
) -> Side:
    """Return a training step of `atrous`, from a batch to the optimiser step."""
    training = TrainingConfig(precision="bf16" if bf16 else "fp32")
    fabric = build_fabric(Config(training=training, output=OutputConfig(device=str(device))))
    network = network.to(memory_format=torch.channels_last)
    start_training(network, frozen_norms=False)
    forward_cells = compile_cells(network) if compiled else None
    sgd = build_optimizer(network, TrainingConfig(lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY))
    task, optimizer = fabric.setup(TrainingTask(network, CrossEntropy(), forward_cells=forward_cells), sgd)
    images, labels = fabric.to_device(pixels)

    def step() -> float:
        share = task(images.contiguous(memory_format=torch.channels_last), labels, task.count_weight(labels))
        fabric.backward(share)
        torch.nn.utils.clip_grad_norm_(network.parameters(), training.clip_norm).item()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(share.item())

    return step


def build_torchvision() -> nn.Module:
    """Return torchvision's network with random weights, equal in every call."""
    from torchvision.models.segmentation import deeplabv3_resnet50

    torch.manual_seed(0)
    network: nn.Module = deeplabv3_resnet50(
        weights=None, weights_backbone=None, num_classes=NUM_CLASSES, aux_loss=False
    )
    return network


def convert_torchvision(network: nn.Module) -> Segmenter:
    """Return the `atrous` network with torchvision's weights, loaded from a file."""
    with tempfile.TemporaryDirectory() as folder:
        torch.save(network.state_dict(), Path(folder) / "network.pth")
        return atrous.load(Path(folder) / "network.pth").network.requires_grad_(True)


def require_equal_losses(size: int, batch: int) -> None:
    """Compare the loss of `atrous` with torchvision's in fp32, without dropout.

    Raises:
        SystemExit: The losses differ.
    """
    theirs = build_torchvision()
    ours = convert_torchvision(theirs)
    for network in (theirs, ours):
        for module in network.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    for training, pixels in ((False, draw_batch(batch, size)), (True, draw_batch(4, min(size, 129)))):
        theirs.train(training)
        ours.train(training)
        images, labels = pixels
        with torch.no_grad():
            expected = compute_plain_loss(theirs, normalise(images), labels).item()
            found = TrainingTask(ours, CrossEntropy())(images, labels, count_weight(labels)).item()
        if abs(found - expected) > MOST_LOSS_DIFFERENCE * abs(expected):
            raise SystemExit(f"the losses differ: ours {found}, torchvision's {expected} (training: {training})")
        print(f"loss in fp32, {'training' if training else 'norms at rest'}: ours {found:.6f}, theirs {expected:.6f}")


def build_resnet50_cases(options: argparse.Namespace) -> Iterator[Case]:
    """Yield the training step of torchvision's network."""
    batch, size, device = 2, 129 if options.smoke else 513, torch.device("cpu")

    def plain(**how: bool) -> Side:
        return build_plain_step(build_torchvision(), draw_batch(batch, size), device, **how)

    def own(**how: bool) -> Side:
        return build_own_step(convert_torchvision(build_torchvision()), draw_batch(batch, size), device, **how)

    sides: dict[str, Callable[[], Side]] = {
        "torchvision": plain,
        "torchvision channels-last": lambda: plain(channels_last=True),
        "torchvision channels-last bf16": lambda: plain(channels_last=True, bf16=True),
        "atrous bf16": own,
    }
    if options.compiled:
        sides["atrous bf16 compiled"] = lambda: own(compiled=True)
    context: dict[str, object] = {"model": "deeplabv3_resnet50", "batch": batch, "size": size}
    yield Case("training_resnet50", context, sides, check=lambda: require_equal_losses(size, batch))


def build_loss_cases(options: argparse.Namespace) -> Iterator[Case]:
    """Yield upsampling and loss, with the number of classes of VOC and ADE20K."""
    batch, size, stride = 2, 129 if options.smoke else 513, 8
    geometry = Geometry(size, size, size, size, stride, aligned=False)
    for num_classes in (NUM_CLASSES, 150):
        generator = torch.Generator().manual_seed(1)
        shape = (batch, num_classes, geometry.map_height, geometry.map_width)
        logits = (3 * torch.randn(shape, generator=generator)).requires_grad_()
        labels = draw_batch(batch, size, num_classes)[1]

        def theirs(logits: Tensor = logits, labels: Tensor = labels) -> Tensor:
            full = F.interpolate(logits, size=(size, size), mode="bilinear", align_corners=False)
            return torch.autograd.grad(F.cross_entropy(full, labels, ignore_index=IGNORE_INDEX), logits)[0]

        def ours(logits: Tensor = logits, labels: Tensor = labels) -> Tensor:
            loss = CrossEntropy()(logits, labels, None, geometry) / count_weight(labels)
            return torch.autograd.grad(loss, logits)[0]

        difference = 0.0
        if not options.peak_of:
            expected = theirs()
            difference = float((ours() - expected).abs().max() / expected.abs().max())
        yield Case(
            "loss",
            {"batch": batch, "classes": num_classes, "size": size, "stride": stride},
            {"interpolate and cross_entropy": lambda run=theirs: run, "atrous": lambda run=ours: run},
            {"atrous": {"gradient_difference": f"{difference:.1e}"}},
        )


def build_default_cases(options: argparse.Namespace) -> Iterator[Case]:
    """Yield the training step of the default network, at two numbers of cells."""
    batch, device = 2 if options.smoke else 8, torch.device("cpu")
    for own_size, peer_size, cells in ((97, 112, 7),) if options.smoke else ((353, 368, 23), (337, 352, 22)):
        sides: dict[str, Callable[[], Side]] = {}
        more: dict[str, dict[str, object]] = {}
        if has_peer("segmentation_models_pytorch"):
            for name, how in (
                ("smp", {}),
                ("smp channels-last", {"channels_last": True}),
                ("smp channels-last bf16", {"channels_last": True, "bf16": True}),
            ):
                sides[name] = functools.partial(build_smp_step, batch, peer_size, device, how)
                more[name] = {"size": peer_size, **measure_network(build_smp, peer_size)}
        for name, compiled in (("atrous bf16", False), ("atrous bf16 compiled", True))[: 1 + options.compiled]:
            sides[name] = functools.partial(build_default_step, batch, own_size, device, compiled=compiled)
            more[name] = {"size": own_size, **measure_network(build_default, own_size)}
        yield Case("training_default", {"encoder": "lite0", "batch": batch, "cells": cells}, sides, more)


def build_default() -> Segmenter:
    """Return the default network with random weights."""
    torch.manual_seed(0)
    return atrous.build(classes=NUM_CLASSES, weights="none", output_stride=16)


def build_default_step(batch: int, size: int, device: torch.device, *, compiled: bool) -> Side:
    """Return its step."""
    return build_own_step(build_default(), draw_batch(batch, size), device, compiled=compiled)


def build_smp() -> nn.Module:
    """Return segmentation_models_pytorch's DeepLabV3 at output stride 16, with the paper's rates."""
    import segmentation_models_pytorch as smp

    torch.manual_seed(0)
    network: nn.Module = smp.DeepLabV3(
        "tu-tf_efficientnet_lite0",
        encoder_weights=None,
        encoder_output_stride=16,
        decoder_atrous_rates=(6, 12, 18),
        classes=NUM_CLASSES,
    )
    return network


def build_smp_step(batch: int, size: int, device: torch.device, how: Mapping[str, bool]) -> Side:
    """Return its step."""
    return build_plain_step(build_smp(), draw_batch(batch, size), device, **how)


def measure_network(build: Callable[[], nn.Module], size: int) -> dict[str, object]:
    """Return parameters in millions, and GFLOPs of the forward pass of one image; a multiply-add counts as two."""
    network = build().eval()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    with FakeTensorMode(allow_non_fake_inputs=True), FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, size, size))
    return {"parameters_m": f"{parameters / 1e6:.2f}", "gflops": f"{counter.get_total_flops() / 1e9:.2f}"}


def build_weight_gradient_cases(options: argparse.Namespace) -> Iterator[Case]:
    """Yield the weight gradients of the branches of atrous spatial pyramid pooling."""
    channels, cells = (64, 33) if options.smoke else (2048, 65)
    for dtype, rate in itertools.product((torch.bfloat16, torch.float32), (12, 24, 36)):
        generator = torch.Generator().manual_seed(0)
        features = torch.randn((2, channels, cells, cells), generator=generator)
        features = features.to(dtype=dtype, memory_format=torch.channels_last)
        plain = nn.Conv2d(channels, 256, 3, padding=rate, dilation=rate, bias=False)
        own = Conv(channels, 256, 3, padding=rate, dilation=rate, bias=False)
        sides: dict[str, Callable[[], Side]] = {}
        for name, conv in (("autograd", plain), ("atrous", own)):
            out = conv.to(dtype=dtype, memory_format=torch.channels_last)(features)
            towards = torch.ones_like(out)
            sides[name] = lambda out=out, weight=conv.weight, towards=towards: functools.partial(
                torch.autograd.grad, out, weight, towards, retain_graph=True
            )
        context: dict[str, object] = {"channels": channels, "cells": cells, "dtype": str(dtype)[6:], "rate": rate}
        yield Case("weight_gradient", context, sides, has_memory=False)


def build_confusion_cases(options: argparse.Namespace) -> Iterator[Case]:
    """Yield the counting of one image of the size of Cityscapes."""
    height, width, num_classes = (128, 256, 19) if options.smoke else (1024, 2048, 19)
    generator = np.random.default_rng(0)
    blocks = generator.integers(0, num_classes, (height // BLOCK_PX, width // BLOCK_PX))
    truth = blocks.repeat(BLOCK_PX, axis=0).repeat(BLOCK_PX, axis=1)
    is_wrong = generator.random(truth.shape) < 0.2
    given = np.where(is_wrong, generator.integers(0, num_classes, truth.shape), truth)
    truth[: height // 16] = IGNORE_INDEX
    truth[:, : width // 32] = IGNORE_INDEX
    found: dict[str, np.ndarray] = {}
    sides: dict[str, Callable[[], Side]] = {}
    if has_peer("torchmetrics"):
        sides["torchmetrics int64"] = functools.partial(build_torchmetrics, truth, given, num_classes, found)
    for kind in ("int64", "uint16"):
        side = f"atrous {kind}"
        sides[side] = functools.partial(build_counting, truth.astype(kind), given.astype(kind), num_classes, found)

    def check() -> None:
        for build in sides.values():
            build()()
        reference = found.popitem()[1]
        if not all(np.array_equal(counts, reference) for counts in found.values()):
            raise SystemExit("the counts differ")

    context: dict[str, object] = {"height": height, "width": width, "classes": num_classes}
    yield Case("confusion", context, sides, check=check, has_memory=False)


def build_torchmetrics(truth: np.ndarray, given: np.ndarray, num_classes: int, found: dict[str, np.ndarray]) -> Side:
    """Return the update of an empty matrix by torchmetrics."""
    from torchmetrics.classification import MulticlassConfusionMatrix

    true, predicted = torch.from_numpy(truth), torch.from_numpy(given)

    def count() -> None:
        matrix = MulticlassConfusionMatrix(num_classes, ignore_index=IGNORE_INDEX, validate_args=False)
        matrix.update(predicted, true)
        found["torchmetrics"] = matrix.confmat.numpy()

    return count


def build_counting(truth: np.ndarray, given: np.ndarray, num_classes: int, found: dict[str, np.ndarray]) -> Side:
    """Return the update of an empty matrix by `atrous`."""

    def count() -> None:
        matrix = ConfusionMatrix(num_classes)
        matrix.update(truth, given)
        found[f"atrous {truth.dtype}"] = matrix.counts

    return count


def has_peer(package: str) -> bool:
    """Whether another tool is installed; prints a line if it is not."""
    found = importlib.util.find_spec(package) is not None
    if not found:
        print(f"{package} is not installed: skipped", file=sys.stderr)
    return found


TABLES: dict[str, Callable[[argparse.Namespace], Iterator[Case]]] = {
    "training_resnet50": build_resnet50_cases,
    "loss": build_loss_cases,
    "training_default": build_default_cases,
    "weight_gradient": build_weight_gradient_cases,
    "confusion": build_confusion_cases,
}


def run_case(case: Case, number: int, options: argparse.Namespace) -> None:
    """Check, measure and report one case."""
    case.check()
    more: dict[str, dict[str, object]] = {side: dict(case.more.get(side, {})) for side in case.sides}
    if case.has_memory:
        for side in case.sides:
            more[side]["peak_mib"] = measure_apart(case.table, number, side, options)
    times = take_turns({name: build() for name, build in case.sides.items()}, options.rounds, warm_up=1)
    report(case.table, case.context, times, reference=next(iter(case.sides)), options=options, more=more)


def measure_apart(table: str, number: int, side: str, options: argparse.Namespace) -> str:
    """Return a candidate's peak memory in MiB, from a separate process; empty if the system does not report it."""
    flags = [f"--{name}" for name in ("smoke", "compiled") if getattr(options, name)]
    command = [sys.executable, __file__, "--tables", table, "--allocator", options.allocator, *flags]
    command += ["--peak-of", f"{number}:{side}"]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    return lines[-1] if lines else ""


def print_peak(case: Case, side: str) -> None:
    """Warm up one candidate, which allocates momentum and buffers, and print the memory of one more run."""
    run = case.sides[side]()
    for _ in range(2):
        run()
    peak = measure_peak_mib(run, torch.device("cpu"))
    print("" if peak is None else f"{peak:.0f}")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this script."""
    parser.add_argument("--tables", default=",".join(TABLES), help=f"any of {', '.join(TABLES)}")
    parser.add_argument("--smoke", action="store_true", help="small sizes")
    parser.add_argument(
        "--compiled", action="store_true", help="also measure the steps of atrous with training.compile; takes minutes"
    )
    parser.add_argument("--peak-of", default="", help=argparse.SUPPRESS)


def main() -> None:
    """Run the tables given on the command line."""
    options = parse_options(__doc__ or "", add_options)
    for table in options.tables.split(","):
        for number, case in enumerate(TABLES[table](options)):
            if not options.peak_of:
                run_case(case, number, options)
            elif options.peak_of.startswith(f"{number}:"):
                print_peak(case, options.peak_of.split(":", 1)[1])


if __name__ == "__main__":
    main()
