"""What a training would do, without the training: its plan, and its first images."""

from __future__ import annotations

from pathlib import Path

from atrous.config.load import LoadedConfig
from atrous.config.stages import list_stages
from atrous.core.output_folder import require_place
from atrous.core.run_folder import RunFolder
from atrous.core.words import describe_count
from atrous.data.build import build_splits, build_stream, check_training_data, list_pass
from atrous.data.input_statistics import measure_input
from atrous.data.preview import require_own, save_preview
from atrous.data.samples import find_form
from atrous.networks.build import describe_network
from atrous.runs.folder import hold_run
from atrous.runs.stages import Stage, list_given_crops, prepare_stages


def plan_training(loaded: LoadedConfig) -> list[str]:
    """Describe what a training would do, line by line; settings and data are checked, and nothing is written.

    Raises:
        UsageError: The folder already holds a run.
        ConfigError: The settings are impossible.
        DataError: The data cannot be used for training.
        MachineError: A step needs more than all the memory of the device.
    """
    from atrous.training.terms import describe_terms, list_terms

    notes: list[str] = []
    with hold_run(loaded.config) as run:
        stages, _ = prepare_stages(loaded, run, None, None, notes.append)
    for stage in stages:
        _require_memory(stage)
    lines = [f"data: {notes[0]}", *notes[1:]]
    for number, stage in enumerate(stages, start=1):
        if len(stages) > 1:
            lines.append(f"stage {number} of {len(stages)}:")
        lines += _describe_stage(stage, is_first=number == 1)
    lines += describe_terms(list_terms(stages[0].config))
    return [*lines, f"run: {run.path}"]


def _require_memory(stage: Stage) -> None:
    """Refuse a crop and a batch that do not fit, as the start of the training would."""
    from atrous.training.batch import build_on_device
    from atrous.training.memory import require_memory
    from atrous.training.world import World

    network, fabric = build_on_device(stage.config, stage.splits.train)
    require_memory(network, stage.config.training, fabric, World.alone())


def _describe_stage(stage: Stage, *, is_first: bool) -> list[str]:
    from atrous.training.optimizers import describe_rates

    model, training = stage.config.model, stage.config.training
    weights = model.weights if is_first else "the stage before"  # trained weights, whatever the first one began with
    about = describe_network(model.name, **model.model_dump(exclude={"name", "weights"}))
    return [
        f"train: {describe_count(len(stage.splits.train), 'image')}, "
        f"val: {describe_count(len(stage.splits.val), 'image')}, "
        f"{describe_count(len(stage.statistics.pixels), 'class')}",
        f"model: {model.name}, {about['parameters']:,} parameters, output stride {model.output_stride}, "
        f"rates {', '.join(map(str, about['head_rates'])) or 'none'}, weights of {weights}",
        f"training: {_describe_length(stage)}, batch {training.batch} x {training.accumulate}, crop {training.crop}",
        f"optimizer: {describe_rates(training, weights)}",
    ]


def _describe_length(stage: Stage) -> str:
    """Return the steps and epochs of a stage; of one that is given in minutes they are not known before it starts."""
    from atrous.training.plan import count_steps

    training = stage.config.training
    if training.max_minutes is not None:
        return f"{training.max_minutes:g} minutes"
    images = len(list_pass(training, stage.splits.train.label_space, stage.statistics))
    samples = training.batch_size * training.accumulate
    steps = count_steps(training.epochs, training.iterations, images, samples)
    return f"{describe_count(steps, 'step')} ({steps * samples / images:.1f} epochs)"


def preview_training(loaded: LoadedConfig) -> Path:
    """Write the first 16 augmented images of a training, or of its first stage, beside their masks.

    Returns:
        The image file, in the folder of the run if one is given, else in runs/.
    Raises:
        DataError: Data that cannot be read.
        ConfigError: The data do not have a class that is named as hard.
    """
    from atrous.training.crop import settle_crop

    config = list_stages(loaded.config)[0]
    path = RunFolder(Path(config.output.folder or "runs")).preview
    require_place(path)
    require_own(path)
    splits = build_splits(config.data)
    space, one_pass, statistics = splits.train.label_space, None, None
    is_crop_given = list_given_crops(loaded)[0]
    if not is_crop_given or config.training.rare_crops or not isinstance(config.training.hard_classes, str):
        statistics, _ = check_training_data(config.data, splits)
        one_pass = list_pass(config.training, space, statistics)
        if not is_crop_given:
            config, _ = settle_crop(config, space.num_classes, statistics.longest_side_px, is_given=False)
    spec = None if find_form(splits.train).is_photo else measure_input(splits.train, config.training.seed)
    stream = build_stream(splits.train, config.training, one_pass, input_spec=spec, statistics=statistics)
    save_preview(stream, space, path)
    return path
