"""The data that a model is scored on."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from atrous.config.load import LoadedConfig, load_config
from atrous.config.schema import DataConfig
from atrous.config.stages import list_stages
from atrous.core.data_source import FOLDER, SETTINGS_NAME
from atrous.core.errors import AtrousError, DataError, UsageError
from atrous.core.findings import shorten_list
from atrous.core.inputs import PHOTO, ImageForm
from atrous.core.labels import LabelSpace, name_unnamed
from atrous.core.records import MessageCallback, Note, send_message
from atrous.core.run_folder import RunFolder
from atrous.core.words import describe_count
from atrous.data.build import build_all_pairs, build_scored_pairs, find_source
from atrous.data.contracts import SegmentationDataset
from atrous.data.digests import find_shared_files
from atrous.data.samples import find_form, require_dataset
from atrous.runs.kept_images import find_test_data, rebuild_splits

_READING = (("label_map", "colours"), ("unlabelled",), ("page",))
"""Settings of how files are read. Of those in one group the data say all or none."""


def find_scored_data(
    data: SegmentationDataset | str | Path | None,
    run: RunFolder | None,
    space: LabelSpace,
    root: str | Path | None,
    on_message: MessageCallback | None,
    form: ImageForm = PHOTO,
) -> SegmentationDataset:
    """Return the data that a model is scored on.

    Files are read as the data's own atrous.yaml says. What it does not say is read as the run reads it. Classes and the
    form of images are the model's in any case: settings that contradict them are refused.

    Args:
        data: A data set or its source. Default: the validation data of the model's run.
        run: The run that the model came from, if known.
        space: The model's classes, which the data has.
        root: Folder in which registered data sets are looked for, and the data of a run that have moved.
        on_message: Receives messages about automatic choices and findings.
        form: The form of images that the model takes.
    Raises:
        UsageError: No data is given, and the model's run is not known; or a Python data set has another form.
        DataError: Nothing at the place, no known layout, files that do not pair, or classes that the data's own
            atrous.yaml calls by other names than the model, or bands or a range of values that are not the model's.
    """
    if data is not None and not isinstance(data, str | Path):
        if not require_dataset(data):
            message = f"{data.name}: its samples change from call to call, and so will the score"
            send_message(on_message, Note("random-samples", message))
        return data
    if data is None:
        if run is None:
            raise UsageError("no data to score on", "Give DATA, or a run folder, which knows its own validation data.")
        return _find_validation_data(run, root, on_message)
    place = {"data.source": str(data), "data.root": root}
    own = load_config(options=place)
    _require_same_names(own, space, run)
    reading = _find_reading(own, run, on_message)
    classes = dict(zip(space.ids, space.names, strict=True))
    ignored = _find_ignored(own, space, reading, on_message)
    given = {**place, **reading, "data.classes": classes, "data.ignore": ignored}
    dataset = build_scored_pairs(load_config(options=given).config.data, on_message)
    _require_same_form(own, dataset, form)
    if run is not None:
        _warn_of_seen_images(run.path, dataset, on_message)
    return dataset


def _find_ignored(
    own: LoadedConfig, space: LabelSpace, reading: Mapping[str, Any], on_message: MessageCallback | None
) -> tuple[int, ...]:
    """Return the values that are not scored: those of the model, unless they are mapped, and those of the data.

    Raises:
        DataError: The data name a class by an id that the model ignores.
    """
    data = own.config.data
    label_map = reading.get("data.label_map", data.label_map)
    of_model = [number for number in space.ignored_ids if number not in label_map]
    names = data.class_names
    named = names if isinstance(names, Mapping) else dict(enumerate(names or ()))
    clashes = [f"{number} {named[number]!r}" for number in of_model if number in named]
    if clashes and find_source(data).dataset == FOLDER:
        raise DataError(
            f"{data.source}: {own.sources['data.classes']} names {shorten_list(clashes)}, and the model ignores it",
            f"To leave it out of the score, put it into data.ignore of the data's {SETTINGS_NAME}, and not into "
            "data.classes.",
        )
    if own.sources["data.ignore"] != "default" and (more := sorted({*of_model} - {*(data.ignore or ())})):
        message = (
            f"ids ignored: those of {own.sources['data.ignore']}, and as the model does "
            f"{shorten_list([str(number) for number in more])}"
        )
        send_message(on_message, Note("ignored-by-the-model", message))
    return tuple(dict.fromkeys((*of_model, *(data.ignore or ()))))


def _require_same_form(own: LoadedConfig, dataset: SegmentationDataset, form: ImageForm) -> None:
    """Refuse bands and a range of values that the data name and the model does not take: it reads its own."""
    theirs = find_form(dataset)
    for key, there, wanted in (
        ("data.channels", theirs.bands, form.bands),
        ("data.value_range", theirs.value_range, form.value_range),
    ):
        if own.sources[key] != "default" and there != wanted:
            raise DataError(
                f"{own.config.data.source}: {key} ({own.sources[key]}) means {theirs.describe()}, and the model takes "
                f"{form.describe()}",
                f"If the files hold what the model was trained on, remove {key} there; if not, save them in that form.",
            )


def _require_same_names(own: LoadedConfig, space: LabelSpace, run: RunFolder | None) -> None:
    """Refuse data that call an id of the model by another name: their pixels would count for another class.

    A class without a given name agrees with any name. So does every class of a registered data set with a model that
    was trained on it: its classes may have got new names then.
    """
    data, named = own.config.data, own.config.data.class_names
    dataset, source = find_source(data).dataset, own.sources["data.classes"]
    if dataset == FOLDER:
        theirs = dict(named) if isinstance(named, Mapping) else dict(enumerate(named or ()))
    elif run is not None and dataset == _find_trained_dataset(run):
        return
    else:  # a list selects some of the registered classes, and does not rename them
        registered = build_all_pairs(data.model_copy(update={"classes": None})).label_space
        theirs = dict(zip(registered.ids, registered.names, strict=True))
        theirs |= named if isinstance(named, Mapping) else {}
        source = dataset if named is None else source
    differing = [
        f"id {number} is {theirs[number]!r} there and {name!r} in the model"
        for number, name in zip(space.ids, space.names, strict=True)
        if number in theirs and len({theirs[number], name} - {name_unnamed(number)}) > 1
    ]
    if differing:
        raise DataError(
            f"{data.source}: its classes ({source}) are not the model's: {shorten_list(differing)}",
            f"If they mean the same, give these ids the model's names, as data.classes in the data's {SETTINGS_NAME}; "
            "if not, masks with the model's ids are needed.",
        )


def _find_reading(own: LoadedConfig, run: RunFolder | None, on_message: MessageCallback | None) -> dict[str, Any]:
    """Return how the run reads files, where the data do not say it for themselves; where they do, say what differs."""
    trained = _find_trained_data(run) if run is not None else None
    if trained is None:
        return {}
    data, theirs = own.config.data, trained.model_dump(include={key for keys in _READING for key in keys})
    if isinstance(trained.colours, str):  # a file beside the data of the run
        theirs["colours"] = str((find_source(trained).root or Path()).absolute() / trained.colours)
    taken: dict[str, Any] = {}
    differing: list[str] = []
    for keys in _READING if find_source(data).dataset == FOLDER else _READING[:1]:
        if all(own.sources[f"data.{key}"] == "default" for key in keys):
            taken |= {f"data.{key}": theirs[key] for key in keys if theirs[key] != getattr(data, key)}
        else:
            differing += [f"data.{key}" for key in keys if getattr(data, key) != getattr(trained, key)]
    if taken:
        message = f"files are read as those of the run: {' and '.join(taken)} of its settings"
        send_message(on_message, Note("read-as-the-run", message))
    if differing:
        message = (
            f"files are read as {SETTINGS_NAME} of {data.source} says; the run has other {' and '.join(differing)}"
        )
        send_message(on_message, Note("read-as-the-data", message))
    return taken


def _find_trained_data(run: RunFolder) -> DataConfig | None:
    """Return the settings of the data of a run, or of its last stage; None if they cannot be read."""
    try:
        return list_stages(load_config(recipe=run.config).config)[-1].data
    except AtrousError:
        return None


def _find_trained_dataset(run: RunFolder) -> str:
    """Return the name of the data set that a run was trained on; empty if it is not known."""
    trained = _find_trained_data(run)
    try:
        return "" if trained is None else find_source(trained).dataset
    except AtrousError:
        return ""


def _find_validation_data(
    run: RunFolder, root: str | Path | None, on_message: MessageCallback | None
) -> SegmentationDataset:
    command = f"atrous eval {shlex.quote(str(run.path))} DATA"
    hint = (
        f"Give DATA: {command}; in Python: atrous.evaluate(run, val). If they have moved: `data_root=FOLDER`, the "
        "folder that holds them."
    )
    splits = rebuild_splits(run.path, hint=hint, data_root=root)
    for note in splits.notes:
        send_message(on_message, note)
    return splits.val


def find_scored_test(
    run: RunFolder, val: SegmentationDataset, root: str | Path | None, on_message: MessageCallback | None
) -> SegmentationDataset | None:
    """Return the test split of a run's data; None if there is none, or if it cannot be scored, which is reported.

    Args:
        run: The run.
        val: What it was validated on.
        root: Folder that holds the data of the run, where they have moved.
        on_message: Receives messages about findings.
    """
    try:
        test = find_test_data(run, val, root, on_message)
    except AtrousError as error:
        send_message(on_message, Note("test-not-scored", f"the test split is not scored: {error.message}"))
        return None
    if test is not None:
        _warn_of_seen_images(run.path, test, on_message)
    return test


def _warn_of_seen_images(folder: Path, dataset: SegmentationDataset, on_message: MessageCallback | None) -> None:
    try:
        splits = rebuild_splits(folder, needed=())
        shared, chosen = (len(find_shared_files(dataset, side)) for side in (splits.train, splits.val))
    except AtrousError:
        message = "the run's own data are not here, so it is not known whether it was trained on these images"
        send_message(on_message, Note("training-images-unknown", message))
        return
    if shared:
        message = f"warning: the model was trained on {shared} of {describe_count(len(dataset), 'image')}"
        send_message(on_message, Note("trained-on", message))
    if chosen:
        message = f"the weights of the model were chosen on {chosen} of {describe_count(len(dataset), 'image')}"
        send_message(on_message, Note("chosen-on", message))
