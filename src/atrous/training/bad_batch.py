"""The batch whose loss or gradient is not finite: kept with the weights that it met, and its step made again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from atrous.config.load import load_config
from atrous.config.stages import list_stages
from atrous.core.errors import ModelFileError, TrainingDiverged
from atrous.core.files import atomic_path, load_json, open_deferring, save_json
from atrous.core.run_folder import RunFolder
from atrous.core.seeds import compute_step_seed
from atrous.data.sampling import Batch
from atrous.networks.layers.lean import set_lean
from atrous.networks.model_file import load_model, save_model
from atrous.training.checkpoint import explain_damage
from atrous.training.conclude import build_card
from atrous.training.fabric import build_fabric
from atrous.training.norm import freeze_norms
from atrous.training.optimizers import build_optimizer
from atrous.training.prepare import Training, build_task
from atrous.training.step import Step
from atrous.training.world import World


def save_bad_batch(training: Training, batches: Sequence[Batch], error: TrainingDiverged) -> str:
    """Write the batches of the step that failed, its weights, and which files they came from.

    Statistics of norms are those after its forward passes: the step does not read them.

    Args:
        training: The training, whose optimiser has not made the step.
        batches: The batches of the step, with the images of all processes.
        error: What the step raised.
    Returns: What was written, in a sentence.
    """
    run, weights = training.run, training.step.task.class_weights
    state = training.network.state_dict()
    finite = {name: torch.nan_to_num(tensor) for name, tensor in state.items()}  # a model file holds no other numbers
    save_model(run.bad_network, training.network, build_card(training, None), finite)
    content = {
        "network": state,
        "batches": [asdict(batch) for batch in batches],
        "class_weights": None if weights is None else weights.tolist(),
    }
    with atomic_path(run.bad_tensors) as temporary, open_deferring(temporary) as file:
        torch.save(content, file)
    keys = {key for batch in batches for key in batch.keys}
    dataset = training.splits.train
    files = [
        str(dataset.image_path(index) or dataset.key(index))
        for index in range(len(dataset))
        if dataset.key(index) in keys
    ]
    save_json(run.bad_record, {"step": training.state.step + 1, "error": error.message, "images": files})
    return f"The batch and the weights that it met are in {run.bad_record.parent}."


def join_batches(parts: Sequence[Sequence[Batch]]) -> list[Batch]:
    """Return the batches of a step as one process would take them.

    Args:
        parts: The batches of each process, by rank.
    """
    return [
        Batch(
            torch.cat([part.images for part in own]),
            torch.cat([part.labels for part in own]),
            tuple(key for part in own for key in part.keys),
            tuple(place for part in own for place in part.places),
        )
        for own in zip(*parts, strict=True)
    ]


def replay_bad_batch(folder: str | Path) -> float:
    """Make the step of a kept batch again, with the same weights and the same dropout.

    One process takes the images of all that made the step; its dropout is then that of none of them.

    Args:
        folder: The folder of a run, or of one of its stages, with a bad batch.
    Returns: The loss, if this time all is finite.
    Raises:
        TrainingDiverged: The loss or the gradient is not finite, as in the run.
        ModelFileError: There is no such batch, or its files are damaged.
    """
    run = RunFolder(Path(folder))
    if not run.bad_record.is_file():
        raise ModelFileError(f"{run.path} has no bad batch", "Only a run whose loss was not finite has one.")
    config = list_stages(load_config(recipe=run.config).config)[-1]
    network, card = load_model(run.bad_network)
    with explain_damage(run.bad_tensors):
        content = torch.load(run.bad_tensors, map_location="cpu", weights_only=True)
        batches = [Batch(**batch) for batch in content["batches"]]
        network.load_state_dict(content["network"])
        number = int(load_json(run.bad_record)["step"])
    weights = "none" if content["class_weights"] is None else tuple(content["class_weights"])
    training = config.training.model_copy(update={"class_weights": weights, "compile": False})
    network.requires_grad_(True)
    if training.norm == "frozen":
        freeze_norms(network)
    network.to(memory_format=torch.channels_last)
    set_lean(network, training.lean == "auto")
    world = World.alone()
    fabric, task = (
        build_fabric(config, world),
        build_task(training, network, card.label_space.names, None, lambda text: None),
    )
    optimizer = build_optimizer(network, training, config.model.weights)
    step = Step(training, World.alone(), fabric, network, *fabric.setup(task, optimizer))
    with torch.random.fork_rng():
        torch.manual_seed(compute_step_seed(training.seed, number - 1))
        return step.take(batches, number)
