"""A model scored on data: what opens the one, finds the other, and counts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atrous.config.load import load_config
from atrous.config.options import update_options
from atrous.config.run_settings import list_settings
from atrous.core.data_source import PYTHON_SOURCE
from atrous.core.errors import AtrousError, UsageError
from atrous.core.files import shorten_paths
from atrous.core.inference_options import InferenceOptions, Opening
from atrous.core.records import MessageCallback, Note, NoteCollector, ProgressCallback, Scores, send_message
from atrous.core.run_folder import RunFolder
from atrous.core.shipped import is_shipped, write_path
from atrous.data.contracts import SegmentationDataset
from atrous.inference.labelling.labeller import Labeller
from atrous.model import Model, load_opened
from atrous.networks.segmenter import Segmenter
from atrous.runs.scored_data import find_scored_data, find_scored_test
from atrous.runs.stages import Run
from atrous.scoring.compare import Measured
from atrous.scoring.count import ImageCallback
from atrous.scoring.summarise import summarise

if TYPE_CHECKING:
    from atrous.training.world import World

Loadable = Model | Run | Segmenter | str | Path
"""A loaded model, a run, a network that was built with the names of its classes, or what `load` opens."""
ScoresCallback = Callable[[str, Scores], None]
"""Receives the name of a model and its scores, as soon as they are known."""


def name_models(models: Sequence[Loadable]) -> list[str]:
    """Return a short name for each model: its path, or for a loaded model its run's, without what all share.

    Args:
        models: The models.
    """
    paths = [find_path(model) or f"model {number}" for number, model in enumerate(models, start=1)]
    names = shorten_paths(set(paths))
    return [names[path] for path in paths]


def find_path(model: Loadable) -> str:
    """Return the path of a model, of a loaded one that of its run; empty if there is none."""
    if isinstance(model, Segmenter):
        return ""
    if isinstance(model, Model):
        return "" if model.run is None else str(model.run.path)
    return str(model) if is_shipped(model) else write_path(model.folder if isinstance(model, Run) else Path(model))


def open_model(model: Loadable, opening: Mapping[str, Any], on_message: MessageCallback | None = None) -> Model:
    """Return a loaded model as it is, or load one.

    Args:
        model: The model.
        opening: Options of loading, by name.
        on_message: Receives what `load` reports.
    Raises:
        UsageError: An option of the opening is given for a model that is loaded already.
    """
    wanted = update_options(Opening(), opening)
    if isinstance(model, Segmenter):
        return Model(model, opening=wanted)
    if not isinstance(model, Model):
        return load_opened(model.folder if isinstance(model, Run) else model, wanted, on_message)
    if given := wanted.list_changes():
        example = ", ".join(f"{name}={getattr(wanted, name)!r}" for name in given)
        raise UsageError(
            f"{', '.join(given)}: the model is loaded already, which settles this", f"atrous.load(path, {example})"
        )
    return model


def prepare_scoring(
    model: Loadable,
    data: SegmentationDataset | str | Path | None,
    data_root: str | Path | None,
    on_message: MessageCallback | None,
    **options: Any,
) -> tuple[Labeller, SegmentationDataset, RunFolder | None]:
    """Return what labels, what is labelled and the model's run, if it is known.

    Options that are not given are those of the model's validations.

    Args:
        model: The model.
        data: What to score on. Default: the validation data of the model's run.
        data_root: Folder in which registered data sets are looked for.
        on_message: Receives messages about automatic choices.
        options: Of the labelling and of the opening.
    """
    opening = {name: options.pop(name) for name in list(options) if name in vars(Opening())}
    update_options(InferenceOptions(), options)  # refused before anything is loaded
    opened = open_model(model, opening, on_message).as_validated(on_message)
    chosen = update_options(opened.validation_options, options)
    dataset = find_scored_data(data, opened.run, opened.label_space, data_root, on_message, opened.card.form)
    return opened.build_labeller(chosen, on_message=on_message), dataset, opened.run


def measure(
    model: Loadable,
    data: SegmentationDataset | str | Path | None,
    data_root: str | Path | None,
    on_message: MessageCallback | None,
    progress: ProgressCallback | None,
    *,
    name: str = "",
    on_image: ImageCallback | None = None,
    on_scores: ScoresCallback | None = None,
    world: World | None = None,
    **options: Any,
) -> Measured:
    """Label and count all images of some data; of a run's own data those of val, then those of test if there are any.

    Args:
        model: The model.
        data: What to score on. Default: the validation data of the model's run.
        data_root: Folder in which registered data sets are looked for.
        on_message: Receives messages about automatic choices; the notes among them are in the scores.
        progress: Receives the progress.
        name: Name of the model, for tables.
        on_image: Receives each image with its labels, none of test.
        on_scores: Receives the name and the scores as soon as they are known, and again with those of test.
        world: The processes that share out the images. Default: this one alone.
        options: Of the labelling and of the opening.
    """
    from atrous.training.validation import count_together
    from atrous.training.world import World

    world = world or World.alone()
    collector = NoteCollector(on_message)
    labeller, dataset, run = prepare_scoring(model, data, data_root, collector, **choose_device(options, world))
    if data is None or (run is None and dataset.name == labeller.chosen.data):
        send_message(collector, Note("chosen-here", labeller.chosen.describe_use()))
    counts = count_together(world, labeller, dataset, on_image=on_image, progress=progress)
    scores = _add_notes(summarise(counts, labeller, data=dataset.name), collector)
    if on_scores is not None:
        on_scores(name, scores)
    if data is None and run is not None:
        collector = NoteCollector(on_message)
        test = find_scored_test(run, dataset, data_root, collector)
        if test is None:  # the reason is among the notes, if there is such a split
            scores = _add_notes(scores, collector)
        else:
            of_test = summarise(count_together(world, labeller, test, progress=progress), labeller, data=test.name)
            scores = replace(scores, test=_add_notes(of_test, collector))
        if on_scores is not None:
            on_scores(name, scores)
    path = "" if is_shipped(model) else find_path(model)
    recipe, seed = _read_recipe(RunFolder(Path(path))) if path else ("", None)
    return Measured(name, labeller, dataset, counts, scores, recipe, seed)


def _add_notes(scores: Scores, collector: NoteCollector) -> Scores:
    return replace(scores, notes=tuple(dict.fromkeys((*collector.notes, *scores.notes))))


def choose_device(options: Mapping[str, Any], world: World) -> dict[str, Any]:
    """Return options whose device is that of this process, where several take part and PyTorch computes.

    Args:
        options: Options, of the opening among others.
        world: The processes.
    """
    from atrous.training.world import find_own_device

    if world.size == 1 or options.get("backend") not in (None, "auto", "torch", "compile"):
        return dict(options)
    return {**options, "device": str(find_own_device(options.get("device") or "auto", world))}


def _read_recipe(run: RunFolder) -> tuple[str, int | None]:
    """Return the settings of a run but for its seed, as text, and the seed; nothing if they cannot be read."""
    if not run.config.is_file():
        return "", None
    try:
        config = load_config(recipe=run.config).config
    except AtrousError:
        return "", None
    if config.data.source == PYTHON_SOURCE:  # which data these were is not known
        return "", None
    # Runs on other data are no runs of another seed, whether or not the data of a run may move.
    stages = config.model_dump(mode="json")["stages"]
    settings = list_settings(config) | {"data.source": config.data.source, "stages": stages}
    seed = settings.pop("training.seed")
    return json.dumps(settings, sort_keys=True), seed
