"""Rules that hold between fields and sections. What only the network or the data can know is checked there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from atrous.config.problems import Problem, find_source, raise_problems
from atrous.config.schema import Config, TrainingConfig
from atrous.config.stages import LENGTH_FIELDS as LENGTH_FIELDS
from atrous.config.stages import check_stages, list_stages
from atrous.core.split_options import DEFAULT_TRAIN, DEFAULT_VAL, SplitOptions
from atrous.core.words import describe_count


def check_config(config: Config) -> list[Problem]:
    """Return everything that cannot be or would have no effect; empty if the configuration is sound.

    A field counts as set where it differs from its default, so a written-out configuration passes like its short form.
    Of stages each is checked as the training that it is.
    """
    if problems := check_stages(config):
        return problems
    found: dict[Problem, None] = {}  # in order, and once where it holds for several stages
    for number, stage in enumerate(list_stages(config)):
        own = config.stages[number] if config.stages else {}
        for problem in (*_check_sections(stage), *([] if number else _check_first(stage))):
            found[problem._replace(key=f"stages.{number}.{problem.key}") if problem.key in own else problem] = None
    return list(found)


def _check_sections(config: Config) -> Iterator[Problem]:
    yield from (*_check_data(config), *_check_training(config), *_check_rest(config))


def _check_first(config: Config) -> Iterator[Problem]:
    """Check what only a later stage can do."""
    if config.training.hard_classes == "auto":
        yield Problem(
            "training.hard_classes",
            "is auto, but no stage before this one has scored the classes",
            "Name the classes, or set it in a later one of the stages.",
        )


def require_valid(config: Config, sources: Mapping[str, str] | None = None) -> None:
    """Raise what `check_config` finds, with where each value came from if `sources` says so.

    Args:
        config: The configuration to check.
        sources: Where each value came from, by dotted key, for the messages.
    Raises:
        ConfigError: There is a problem.
    """
    found = check_config(config)
    raise_problems([problem._replace(where=find_source(problem.key, sources or {})) for problem in found])


def _check_data(config: Config) -> Iterator[Problem]:
    data = config.data
    yield from _check_split(data.split)
    if data.value_range is not None and data.value_range[0] >= data.value_range[1]:
        low, high = data.value_range
        yield Problem("data.value_range", f"is [{low:g}, {high:g}]", "Write the smaller value first.")
    classes = data.class_names
    names = list(classes.values() if isinstance(classes, dict) else classes or ())
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        yield Problem("data.classes", f"names {name!r} twice", "Give each class a name of its own.")
    if isinstance(classes, dict):
        for number in sorted(set(classes) & set(data.ignore or ())):
            yield Problem(
                "data.ignore",
                f"holds {number}, which is the class {classes[number]!r}",
                "An id is either a class or ignored: take it out of data.ignore or data.classes.",
            )
    if (data.images is None) != (data.masks is None):
        given, missing = ("images", "masks") if data.masks is None else ("masks", "images")
        yield Problem(f"data.{given}", f"is given without data.{missing}", "Say where both are.")
    if data.pairs is not None and data.images is not None:
        yield Problem("data.pairs", "is given beside data.images", "Give one of them.")
    if data.label_map and data.colours is not None:
        yield Problem("data.label_map", "has no effect beside data.colours", "Give one of them: numbers or colours.")
    for number in sorted(set(data.label_map) & set(data.ignore or ())):
        yield Problem(
            "data.ignore",
            f"holds {number}, which data.label_map maps to {data.label_map[number]}",
            "A value is either ignored or mapped: take it out of one of them.",
        )


def _check_split(split: SplitOptions) -> Iterator[Problem]:
    if isinstance(split.val, str) and split.val == (split.train or DEFAULT_TRAIN):
        yield Problem(
            "data.split.val",
            f"is {split.val!r}, as data.split.train is: the score would be that of the training images",
            "Name two splits, or a share to hold out, such as 0.2.",
        )
    if split.train == DEFAULT_VAL and split.val is None:
        yield Problem("data.split.train", f"is {DEFAULT_VAL!r}, which is scored too", "Name data.split.val as well.")
    if isinstance(split.val, str) and split.seed:
        yield Problem("data.split.seed", "has no effect: no share is held out", "Leave it out, or write val: 0.2.")
    if split.group is not None:
        try:
            num_groups = re.compile(split.group).groups
        except (re.error, RecursionError, OverflowError) as error:
            yield Problem(
                "data.split.group",
                f"is {split.group!r}, which is no regular expression: {error}",
                'An example is "^(.+?)_": what is before the first underscore.',
            )
        else:
            if not num_groups:
                yield Problem(
                    "data.split.group",
                    f"is {split.group!r}, which has no group",
                    'Put what images have in common in parentheses, such as "^(.+?)_".',
                )


def _check_training(config: Config) -> Iterator[Problem]:
    training = config.training
    defaults = TrainingConfig()
    lengths = [name for name in LENGTH_FIELDS if getattr(training, name) is not None]
    if len(lengths) > 1:
        given = " and ".join(f"training.{name} = {getattr(training, name):g}" for name in lengths)
        yield Problem(f"training.{lengths[0]}", f"is not alone: {given}", "Give exactly one of them.")
    totals = [total for _, total in training.extended]
    if any(step > total for step, total in training.extended) or totals != sorted(set(totals)):
        yield Problem(
            "training.extended",
            f"is {[list(pair) for pair in training.extended]}, which no run can have been",
            "`extend` writes it. Leave it out, or copy it from the config.yaml of the run.",
        )
    low, high = training.scale_range
    if low > high:
        yield Problem("training.scale_range", f"runs from {low:g} down to {high:g}", f"Write [{high:g}, {low:g}].")
    weights, classes = training.class_weights, config.data.classes
    if isinstance(weights, tuple) and classes is not None and len(weights) != len(classes):
        yield Problem(
            "training.class_weights",
            f"has {describe_count(len(weights), 'weight')} for {describe_count(len(classes), 'class')}",
            "Give one weight a class, in the order of data.classes, or auto.",
        )
    if training.hard_classes == "none" and training.hard_repeats != defaults.hard_repeats:
        yield Problem(
            "training.hard_repeats",
            "has no effect: no class is named as hard",
            "Leave it out, or name classes in training.hard_classes.",
        )
    if training.patience is not None and training.patience >= training.validations:
        yield Problem(
            "training.patience",
            f"has no effect: {training.patience} of {describe_count(training.validations, 'validation')} have to be "
            "worse than one before",
            "Lower it, or raise training.validations.",
        )
    if not config.model.auxiliary and training.auxiliary_weight != defaults.auxiliary_weight:
        yield Problem(
            "training.auxiliary_weight",
            "has no effect: this network has no auxiliary head",
            "Leave it out, or set model.auxiliary to true.",
        )
    if training.norm == "frozen" and training.norm_momentum != defaults.norm_momentum:
        yield Problem(
            "training.norm_momentum",
            "has no effect: frozen norms keep their statistics",
            "Leave it out, or set training.norm to trained.",
        )


def _check_rest(config: Config) -> Iterator[Problem]:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", config.output.device):
        yield Problem("output.device", f"is {config.output.device!r}", "Allowed: auto, cpu, cuda, cuda:1, mps.")
    if config.output.log_model and not {"mlflow", "wandb"} & set(config.output.logger):
        yield Problem(
            "output.log_model",
            "has no effect: no tracker stores models",
            "Leave it out, or add `logger=mlflow` or wandb.",
        )
