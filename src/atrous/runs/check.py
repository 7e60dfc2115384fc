"""A check of data as a whole: find them, read every file that is not known from before, run every check. No PyTorch."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from atrous.config.load import DATA_VERSION, load_config
from atrous.config.schema import DataConfig
from atrous.core.arguments import refuse_wrong_types
from atrous.core.data_source import PYTHON_SOURCE, SETTINGS_NAME
from atrous.core.errors import DataError, UsageError
from atrous.core.files import save_text
from atrous.core.findings import IGNORED, UNKNOWN, CheckResult, ClassCount, Finding, format_settings, merge_settings
from atrous.core.labels import LabelSpace, name_unnamed
from atrous.core.records import MessageCallback, ProgressCallback, send_message
from atrous.data.build import find_source, find_splits, read_splits, survey_data
from atrous.data.checks.survey import run_checks
from atrous.data.contracts import SegmentationDataset, Splits
from atrous.data.facts import DatasetFacts
from atrous.display.progress import open_call
from atrous.reports.check_page import require_page_place, write_check_page


@refuse_wrong_types
def check(
    data: str | Path | Splits | tuple[SegmentationDataset, SegmentationDataset],
    *,
    data_root: str | Path | None = None,
    set: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    progress: ProgressCallback | bool | None = None,
    on_message: MessageCallback | None = None,
) -> CheckResult:
    """Find what is wrong with images and their masks: what a training would refuse, and what may cost accuracy.

    Args:
        data: A registered name, `name=PATH`, a folder, or a pair of Python data sets.
        data_root: Folder in which registered data sets are looked for.
        set: Settings of the data by their dotted key, such as {"data.split.val": "test"}.
        out: An HTML file that shows the result, with images. Default: none is written.
        progress: Receives the progress. Default: a bar on a terminal or in a notebook, a line now and then elsewhere;
            False shows nothing.
        on_message: Receives what was assumed. Default: it is shown with the progress.
    Raises:
        ConfigError: A setting that is unknown or impossible.
        DataError: There is no such folder.
        UsageError: The data are a run or a model, the objects are no data sets, or `out` is a file of another kind.
        MachineError: The page cannot be written.
    """
    splits = None if isinstance(data, str | Path) else read_splits(data)
    source = PYTHON_SOURCE if splits else str(data)
    root = None if data_root is None else str(data_root)
    loaded = load_config(options={"data.source": source, "data.root": root, **(set or {})}, keywords=["set"])
    with open_call(progress, on_message) as display:
        page = None if out is None else Path(out)
        return check_data(loaded.config.data, splits, display.progress, display.on_message, page=page)


def check_data(
    config: DataConfig,
    splits: Splits | None = None,
    progress: ProgressCallback | None = None,
    on_message: MessageCallback | None = None,
    *,
    page: Path | None = None,
    on_result: Callable[[CheckResult], None] | None = None,
) -> CheckResult:
    """Check some data: what a training on them would refuse, and what may cost accuracy.

    Args:
        config: The settings of the data.
        splits: The data, if they are Python objects.
        progress: Receives the progress.
        on_message: Receives what was assumed.
        page: The HTML file that shows the result. Default: none.
        on_result: Receives what is returned before the page is written.
    Raises:
        ConfigError: No source, an unknown option, or classes that the data set does not have.
        DataError: There is no such folder.
        UsageError: The source is a run or a model, or a Python data set has another form than its contract says,
            or the page's file is of another kind.
        MachineError: The page cannot be written.
    """
    if page is not None:
        require_page_place(page)
    result, datasets = _check(config, splits, progress, on_message)
    if on_result is not None:
        on_result(result)
    if page is not None:
        write_check_page(page, result, datasets)
    return result


def _check(
    config: DataConfig,
    splits: Splits | None,
    progress: ProgressCallback | None,
    on_message: MessageCallback | None,
) -> tuple[CheckResult, tuple[SegmentationDataset, ...]]:
    source = config.source if config.source == PYTHON_SOURCE else str(find_source(config))
    try:
        splits = splits or find_splits(config, progress=progress)
    except DataError as error:
        code = error.code or "unknown-layout"
        found = error.findings or (Finding(code, "error", 1, error.message, fix=error.hint),)
        return CheckResult(source, findings=found), ()
    for note in splits.notes:
        send_message(on_message, note)
    survey = survey_data(config, splits, progress)
    findings = run_checks(survey)
    num_pairs = sum(len(split.items) for split in survey.splits)
    num_images = sum(len(inventory.images.files) for inventory in splits.inventories) or num_pairs
    space = next((split.label_space for split in survey.drop(findings).splits), splits.train.label_space)
    ids = _count_ids(survey.splits, space)
    result = CheckResult(source, splits.layout, num_images, num_pairs, ids, tuple(findings))
    return result, (splits.train, splits.val)


def describe_settings(config: DataConfig, result: CheckResult, most: int | None = None) -> str:
    """Return an atrous.yaml that says what was given and what a check found, and solves what settings can solve.

    Args:
        config: The settings of the data.
        result: What was found.
        most: Entries of one list or table that are written; None: all.
    """
    given = config.model_dump(exclude_defaults=True, exclude={"source", "root", "classes", "ignore"})
    merged = merge_settings([given, result.settings])
    ordered = {name: merged[name] for name in DataConfig.model_fields if name in merged}
    return f"version: {DATA_VERSION}\n{format_settings(ordered, most)}"


def write_settings(config: DataConfig, result: CheckResult) -> tuple[Path, str]:
    """Write what a check found as the atrous.yaml of the data, unless there is one.

    Args:
        config: The settings of the data.
        result: What was found.
    Returns:
        The file; and if it existed, which it keeps doing as it was, how it differs from what was found.
    Raises:
        UsageError: The data have no folder, or no layout explains their files.
        MachineError: The file cannot be written.
    """
    source = find_source(config)
    if source.root is None or not result.settings:
        what = "have no folder" if source.root is None else "have no classes that were found"
        raise UsageError(f"no {SETTINGS_NAME} to write: the data {what}", "Leave out `write`.")
    path = source.settings or source.root / SETTINGS_NAME
    text = describe_settings(config, result)
    if not path.exists():
        save_text(path, text)
        return path, ""
    before = path.read_text(encoding="utf-8")
    lines = difflib.unified_diff(before.splitlines(), text.splitlines(), str(path), "what was found", lineterm="")
    return path, "\n".join(lines)


def _count_ids(splits: Sequence[DatasetFacts], space: LabelSpace) -> tuple[ClassCount, ...]:
    """Count the classes in their order, then the other ids in theirs."""
    names = dict(zip(space.ids, space.names, strict=True))
    pixels, images, first = dict.fromkeys(space.ids, 0), dict.fromkeys(space.ids, 0), dict[int, str]()
    for item in (item for split in splits for item in split.items if item.mask):
        for number, count in item.mask.counts.items() if item.mask else ():
            pixels[number] = pixels.get(number, 0) + count
            images[number] = images.get(number, 0) + 1
            first.setdefault(number, str(item.mask_path or item.key))
    total = sum(pixels.values())
    order = [*space.ids, *sorted(pixels.keys() - names.keys())]
    return tuple(
        ClassCount(
            number,
            names.get(number, IGNORED if number in space.ignored_ids else UNKNOWN),
            pixels[number],
            images[number],
            pixels[number] / total if total else 0.0,
            first.get(number, ""),
            is_class=number in names,
            is_named=names.get(number) != name_unnamed(number),
        )
        for number in order
    )
