"""The end of a training: its best weights with their card, example images, metrics.json."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from atrous.core.errors import ModelFileError
from atrous.core.metrics_file import load_metrics, save_metrics
from atrous.core.provenance import collect_provenance, collect_versions
from atrous.core.records import Note, Scores, list_notes
from atrous.core.words import describe_count
from atrous.data.rare import describe_seen
from atrous.inference.convolutions import describe_convolutions
from atrous.networks.model_card import ModelCard, describe_scores
from atrous.networks.model_file import find_input_form, load_model, save_model
from atrous.networks.model_source import name_weights
from atrous.training.outlook import describe_outlook
from atrous.training.plan import Plan
from atrous.training.prepare import Training


def conclude_training(training: Training, *, interrupted: bool) -> dict[str, Any]:
    """Write metrics.json, example images, and the best weights with all that is known of them.

    Args:
        training: A training after its last step.
        interrupted: Whether steps are left to do.
    Returns: The content of metrics.json.
    """
    state, run = training.state, training.run
    if state.best_scores is None:
        _save(training, build_card(training, None))
    else:
        best = training.world.share(lambda: load_model(run.model)[0].state_dict())
        training.averaged.network.load_state_dict(best)
    if state.seen:
        names = training.splits.train.label_space.names
        message = describe_seen(np.array(state.seen), training.statistics.pixels, names)
        training.journal.log(Note("classes-seen", message))
    examples: list[dict[str, Any]] = []
    if state.best_scores is not None:
        # Someone who interrupts a run does not wait for other passes over the data.
        if not interrupted:
            state.best_scores = training.validator.conclude(training.journal.watch("scoring"))
            _save(training, build_card(training, state.best_scores))
            if state.best_scores.calibration is not None:
                training.journal.log(state.best_scores.calibration.describe())
        notes = [*state.best_scores.notes, *training.validator.compare_pooling(state.best_scores)]
        miou = None if interrupted else training.validator.score_bf16(state.best_scores)
        if miou is not None:
            notes.append(Note("bf16-score", f"in bf16 the mIoU is {miou:.4f}"))
            _save(training, replace(build_card(training, state.best_scores), score_bf16=miou))
        state.best_scores = replace(state.best_scores, notes=tuple(notes))
        if training.world.is_writer:
            examples = training.validator.save_examples(run, state.best_scores)
        outlook = describe_outlook(
            training.journal.rows, run, training.config, state.step / training.plan.steps_per_epoch
        )
        ends_early = state.step < training.plan.total_steps  # where the learning rate has not fallen to 0
        if outlook is not None and not interrupted and (outlook.code == "overfitting" or not ends_early):
            training.journal.log(outlook)
        if training.has_lost_patience and ends_early:
            training.journal.log(_describe_early_stop(training))
    metrics = {
        "miou": None,
        "classes": [],
        "protocol": None,
        **(state.best_scores.to_json() if state.best_scores else {}),
        "notes": list_notes((*training.journal.notes, *(state.best_scores.notes if state.best_scores else ()))),
        "ladder": [],
        "model": training.config.model.model_dump(mode="json"),
        "label_space": training.splits.val.label_space.to_json(),
        "training": _describe(training, interrupted=interrupted),
        "convolutions": [each.to_json() for each in training.convolutions],
        "data_fingerprint": training.fingerprint,
        "examples": examples,
        **collect_provenance(),
    }
    if training.world.is_writer:
        save_metrics(run.metrics, metrics)
        if training.config.output.log_model:
            training.journal.trackers.log_model(run.model)
    return metrics


def reopen_metrics(training: Training) -> None:
    """Let metrics.json of a run that is extended say that it has not reached its end, whatever ends it now.

    Args:
        training: A training before a step; nothing is done if it has no metrics.json, or one that is damaged, which its
            end writes again.
    """
    with suppress(ModelFileError, KeyError, TypeError):
        metrics = load_metrics(training.run.metrics)
        described = {"planned_steps": training.plan.total_steps, "interrupted": True}
        extended = {"extended": _list_extensions(training.plan)}
        save_metrics(training.run.metrics, metrics | {"training": {**metrics["training"], **described, **extended}})


def _list_extensions(plan: Plan) -> list[str]:
    return [f"after step {step:,} of {total:,}" for step, total in plan.extended]


def _describe_early_stop(training: Training) -> Note:
    state, patience = training.state, training.config.training.patience or 0
    message = (
        f"stopped early after step {state.step:,} of {training.plan.total_steps:,}: no better mIoU in "
        f"{describe_count(patience, 'validation')}; the weights of step {state.best_step:,} are kept"
    )
    return Note("stopped-early", message)


def build_card(training: Training, scores: Scores | None) -> ModelCard:
    """Describe the network of a training for its model file.

    Args:
        training: The training.
        scores: The scores of the weights in the file, or None.
    """
    network, input_spec = training.network, training.network.backbone.input_spec
    # Of a run with stages, what the first one started from; without the folder, which tells who trained it.
    settings = {**training.settings, "model.weights": name_weights(training.settings["model.weights"])}
    return ModelCard(
        model=training.config.model.model_dump(mode="json") | {"weights": settings["model.weights"]},
        label_space=training.splits.train.label_space,
        normalisation={"mean": list(input_spec.mean), "std": list(input_spec.std)},
        size_rule=network.size_rule.describe(),
        data=training.splits.train.name,
        recipe_sha256=hashlib.sha256(json.dumps(settings).encode()).hexdigest(),
        versions=collect_versions(),
        input_form=find_input_form(network),
        data_terms=training.terms,
        num_images=len(training.splits.train),
        **({} if scores is None else describe_scores(scores)),
    )


def _save(training: Training, card: ModelCard) -> None:
    if training.world.is_writer:
        save_model(training.run.model, training.averaged.network, card)


def _describe(training: Training, *, interrupted: bool) -> dict[str, Any]:
    state, plan = training.state, training.plan
    extended = _list_extensions(plan)
    return {
        "data": f"{training.splits.train.name}, {describe_count(len(training.splits.train), 'image')}",
        "steps": state.step,
        "planned_steps": plan.total_steps,
        "epochs": round(state.step / plan.steps_per_epoch, 2),
        "seconds": round(training.count_seconds(), 1),
        "data_wait_fraction": training.wait.share,
        "seed": training.config.training.seed,
        "precision": str(training.step.fabric.strategy.precision.precision),
        "computed": describe_convolutions(training.convolutions, training.step.fabric.device),
        "best_step": state.best_step,
        **({"extended": extended} if extended else {}),
        "parameters": sum(p.numel() for p in training.network.parameters()),
        "interrupted": interrupted,
    }
