"""One of two processes that meet over gloo: in a module of its own, which a spawned process can import.

The same functions, called in a process alone, give what the two must find together.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch import nn
from torch.nn import functional as F

import atrous
from atrous.config.load import load_config
from atrous.core.errors import AtrousError
from atrous.core.labels import IGNORE_INDEX
from atrous.core.metrics_file import load_metrics
from atrous.core.records import Progress, Sample
from atrous.core.run_folder import RunFolder
from atrous.data.build import build_loader, check_training_data
from atrous.data.datasets.shapes import build_shapes
from atrous.inference.build import build_labeller
from atrous.inference.engine import Engine
from atrous.losses.contracts import count_weight
from atrous.networks import BACKBONES
from atrous.networks.build import build_network
from atrous.networks.layers.synchronised import synchronising
from atrous.training.checkpoint import load_checkpoint
from atrous.training.fabric import build_fabric
from atrous.training.journal import Journal
from atrous.training.prepare import build_task, prepare_training
from atrous.training.step import Step
from atrous.training.validation import count_together
from atrous.training.world import World
from tiny import TINY

SIZE = 2
SET_SIZES = (1, 3, 101)
COUNTS = (3, 5)
"""Images of the two processes in the test of the norm."""
OPTIONS = {
    **{"data.source": "shapes", "model.name": "deeplabv3-tiny", "model.weights": "none", "training.crop": 65},
    **{"model.head": {"rates": [1, 2], "channels": 8}, "training.batch": 4, "training.iterations": 1},
    **{"training.accumulate": 2, "training.precision": "fp32", "output.device": "cpu"},
}


class HalfIgnored:
    """Shapes of which every second image is ignored as a whole: all that the second of two processes is given."""

    def __init__(self, count: int) -> None:
        self._shapes = build_shapes(num_train=1, num_val=count, size=65).val
        self._count = count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._shapes, name)

    def __len__(self) -> int:
        return self._count

    def get(self, index: int) -> Sample:
        """Return a sample; of an odd number without labels."""
        sample = self._shapes.get(index)
        return replace(sample, labels=np.full_like(sample.labels, IGNORE_INDEX)) if index % 2 else sample


def build_model() -> nn.Module:
    """Build the same small network in every process, without dropout, which draws other numbers in each."""
    torch.manual_seed(0)
    network = build_network(load_config(options=OPTIONS).config.model, 6).to(memory_format=torch.channels_last)
    for module in network.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.p = 0.0
    return network


def compute_gradient(world: World) -> dict[str, Any]:
    """Make a step of two passes, in which all images of the second process are ignored in one of the passes."""
    config = load_config(options=OPTIONS).config
    training, splits = config.training, build_shapes(num_train=12, num_val=1, size=65)
    network, fabric = build_model(), build_fabric(config, world)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    found: dict[str, Any] = {}

    def keep(*_: object) -> None:
        found.update({name: p.grad.clone() for name, p in network.named_parameters()})

    optimizer.register_step_pre_hook(keep)
    task = build_task(training, network, splits.train.label_space.names, None, lambda text: None)
    step = Step(training, world, fabric, network, *fabric.setup(task, optimizer))
    part = (world.rank, world.size)
    loader = build_loader(splits.train, training, start_place=0, num_places=8, workers=0, part=part)
    batches = list(loader)
    for batch in batches:
        for place, labels in zip(batch.places, batch.labels, strict=True):
            if place in (2, 3, 5):
                labels.fill_(IGNORE_INDEX)
    loss = step.take(batches, 1)
    places = [batch.places for batch in batches]
    return {"gradient": found, "loss": loss, "places": places, "buffers": dict(network.named_buffers())}


def normalise(features: torch.Tensor) -> dict[str, torch.Tensor]:
    """Pass features through a batch norm; return the output, the statistics and the gradients."""
    torch.manual_seed(1)
    norm = nn.BatchNorm2d(features.shape[1])  # in 32 bits, as autocast leaves it
    nn.init.normal_(norm.weight)
    features = features.clone().requires_grad_(True)
    with synchronising():
        out = norm(features)
    factor = torch.linspace(0.5, 2.0, out[0].numel(), dtype=out.dtype).view_as(out[:1])
    (F.softplus(out) * factor * (1 + features.detach())).sum().backward()
    kept = {"out": out.detach(), "mean": norm.running_mean, "var": norm.running_var, "input": features.grad}
    return kept | {"weight": norm.weight.grad, "bias": norm.bias.grad}


def make_features(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return the features of both processes, those of each with another mean and spread."""
    torch.manual_seed(2)
    features = torch.randn(sum(COUNTS), 7, 3, 4)
    features[: COUNTS[0]] = features[: COUNTS[0]] * 3.0 + 5.0
    return features.to(dtype)


def count_sets(world: World) -> list[Any]:
    """Count confusions on sets of several sizes, of which one leaves the second process without an image."""
    network = build_model().eval()
    nn.init.normal_(network.head.classifier.weight, std=3.0)
    config = load_config(options=OPTIONS).config
    sets = [HalfIgnored(size) for size in SET_SIZES]
    labeller = build_labeller(Engine(network, device="cpu"), sets[0].label_space, config.evaluation, precision="fp32")
    return [count_together(world, labeller, each) for each in sets]


def plan(world: World, folder: Path) -> dict[str, Any]:
    """Plan a training by minutes; the clock of the second process runs an hour ahead."""
    config = load_config(options=OPTIONS | {"training.iterations": None, "training.max_minutes": 90}).config
    splits = build_shapes(num_train=12, num_val=2, size=65)
    statistics, _ = check_training_data(config.data, splits)
    training = prepare_training(
        config,
        splits,
        statistics,
        Journal(RunFolder(folder / "planned"), is_writer=False),
        settings={},
        world=world,
        started=time.monotonic() - 3600 * world.rank,
    )
    return training.plan.to_json()


def train(folder: Path) -> dict[str, Any]:
    """Train by the public call, in whichever processes the caller has started."""
    splits = build_shapes(num_train=12, num_val=3, size=65)
    options = {"model": "deeplabv3-tiny", "weights": "none", "crop": 65, "batch": 2, "iterations": 2, "device": "cpu"}
    more = {"model.head": {"rates": [1, 2], "channels": 8}}
    run = atrous.train(splits, out=folder / "run", validations=1, set=more, progress=False, **options)
    steps = load_metrics(run.folder / "metrics.json")["training"]["steps"]
    return {"miou": run.scores.miou, "images": len(run.scores.images), "steps": steps}


RUN = {
    **{"model": "deeplabv3-tiny", "weights": "none", "crop": 33, "batch": 4, "iterations": 8, "validations": 4},
    **{"accumulate": 2, "ema_decay": 0.5, "jitter": 0.2, "precision": "fp32", "device": "cpu"},
    "set": {
        **{"model.head": {"rates": [1, 2], "channels": 8}, "training.warmup_fraction": 0.0},
        "data.options": {"num_train": 16, "num_val": 3, "size": 65},
    },
}
"""Options of a run in which a step depends on much, such as dropout, several passes over the data and averages."""


def train_in_parts(rank: int, folder: Path) -> int | None:
    """Train a run as a whole, and one that a signal to the first process stops, and that is continued."""

    def stop(at: Progress) -> None:
        if (at.stage, at.done) == ("training", 3):
            os.kill(os.getpid(), signal.SIGTERM)

    atrous.train("shapes", out=folder / "whole", progress=False, **RUN)
    atrous.train("shapes", out=folder / "parts", progress=stop, **RUN)
    stopped = load_checkpoint(folder / "parts" / "last.ckpt").step if rank == 0 else None
    atrous.train(resume=folder / "parts", progress=False)
    return stopped


def diverge(folder: Path) -> dict[str, Any]:
    """Train with a learning rate at which the loss is soon not finite."""
    try:
        atrous.train("shapes", out=folder / "diverged", progress=False, **RUN | {"lr": 1e9, "validations": 1})
    except AtrousError as error:
        return {"name": type(error).__name__, "message": error.message, "notes": list(getattr(error, "__notes__", ()))}
    return {}


def work(rank: int, folder: str) -> None:
    """Do what each process does, and write what it found to a file."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=SIZE)
    try:
        with BACKBONES.including(TINY):
            world = World.of_process_group()
            own = torch.tensor([1.0 + rank])
            labels = torch.tensor([[[0, 1, IGNORE_INDEX]], [[IGNORE_INDEX, IGNORE_INDEX, IGNORE_INDEX]]])[rank]
            share = list(range(1))[rank :: world.size]  # that of rank 1 is empty
            features = make_features().split(COUNTS)[rank]
            found = {
                "rank": world.rank,
                "size": world.size,
                "local": (world.local_rank, world.local_size),
                "is_writer": world.is_writer,
                "sum": world.reduce(own).item(),
                "own": own.item(),
                "valid": world.reduce(count_weight(labels)).item(),
                "share": world.reduce(torch.tensor(float(len(share)))).item(),
                "shared": world.broadcast({"steps": 10 + rank}),
                "computed": world.share(lambda: rank + 7),
                "gathered": world.gather(f"process {rank}"),
                "any": (world.any(rank == 1), world.any(False)),
                "norm": normalise(features),
                "norm_bf16": normalise(features.bfloat16()),
                "counts": count_sets(world),
                "step": compute_gradient(world),
                "plan": plan(world, Path(folder)),
                "run": train(Path(folder)),
                "stopped": train_in_parts(rank, Path(folder)),
                "diverged": diverge(Path(folder)),
                "folder": folder,
            }
        torch.save(found, Path(folder) / f"{rank}.pt")
    finally:
        torch.distributed.destroy_process_group()
