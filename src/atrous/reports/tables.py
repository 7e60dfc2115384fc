"""Rows of the report's tables, from the records of a run: pure functions, numbers to words. Nothing is drawn here."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from atrous.core.calibration import Calibration, Foreground
from atrous.core.labels import build_palette
from atrous.core.records import Intervals, Protocol, format_interval
from atrous.core.words import describe_count

MISSING = "—"
LARGEST_NUMBERED_MATRIX = 12
SMALLEST_LISTED_CONFUSION = 0.01


@dataclass(frozen=True)
class ClassRow:
    """A class in the table of classes; `iou` is kept as a number for its bar."""

    name: str
    colour: str
    iou: float | None
    iou_text: str
    interval: str
    dice: str
    recall: str
    precision: str
    pixel_share: str
    never_predicted: bool


@dataclass(frozen=True)
class LadderRow:
    """A protocol with its score and the difference to the first protocol."""

    protocol: str
    miou: str
    difference: str


@dataclass(frozen=True)
class StageRow:
    """A training of a run that has several, with what it set for itself and how it was scored."""

    number: int
    settings: str
    protocol: str
    miou: str
    folder: str


@dataclass(frozen=True)
class MatrixCell:
    """A cell of the confusion matrix: the share of the true class's pixels, or None where the class has none.

    The tint grows with the square root of the share, so that a mistake of one percent is seen beside a hit of ninety.
    """

    share: float | None
    tint: float
    text: str
    title: str
    is_diagonal: bool


@dataclass(frozen=True)
class MatrixRow:
    """A true class with what its pixels were called."""

    name: str
    colour: str
    cells: tuple[MatrixCell, ...]


@dataclass(frozen=True)
class Confused:
    """Two classes that are often mistaken for each other, in one direction."""

    truth: str
    prediction: str
    share: str
    pixels: str


@dataclass(frozen=True)
class Validation:
    """A row of metrics.csv; None where the file has no number."""

    step: int
    epoch: float | None
    seconds: float | None
    lr: float | None
    loss: float | None
    miou: float | None
    pixel_accuracy: float | None
    never_predicted: str


def format_ratio(value: float | None) -> str:
    """Write a score with three places: "0.713"."""
    return MISSING if value is None else f"{value:.3f}"


def format_percent(value: float | None) -> str:
    """Write a share as "12.3 %", and what would round to nothing as "< 0.1 %"."""
    if value is None:
        return MISSING
    return "< 0.1 %" if 0 < value < 0.0005 else f"{value:.1%}".replace("%", " %")


def format_count(value: float | None) -> str:
    """Write a count with thousands apart: "1,408"."""
    return MISSING if value is None else f"{value:,.0f}"


def format_difference(value: float | None) -> str:
    """Write a difference of scores with its sign: "+0.012", "−0.004"."""
    if value is None:
        return MISSING
    return f"{value:+.3f}".replace("-", "−")


def format_duration(seconds: float | None) -> str:
    """Write a time as "45 s", "38 min" or "2 h 05 min"."""
    if seconds is None:
        return MISSING
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def format_parameters(value: float | None) -> str:
    """Write a number of weights as "5.6 M" or "12,345"."""
    return f"{value / 1e6:.1f} M" if value is not None and value >= 1e6 else format_count(value)


def format_value(value: Any) -> str:
    """Write any saved value for a table of facts."""
    if value is None or value == "":
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(format_value(item) for item in value) or "none"
    return str(value)


def describe_intervals(metrics: Mapping[str, Any]) -> tuple[str, str]:
    """Return the interval of the mIoU for people, and what the intervals are over; empty where none were computed.

    Args:
        metrics: The content of metrics.json.
    """
    found = Intervals.from_json(metrics.get("intervals"))
    return ("", "") if found is None else (format_interval(found.miou), found.describe())


def describe_protocol(value: Mapping[str, Any] | None) -> str:
    """Say a saved protocol in a few words, as `Protocol.describe` does."""
    if not value:
        return "protocol not recorded"
    known = {field.name: value[field.name] for field in fields(Protocol) if field.name in value}
    if "scales" in known:
        known["scales"] = tuple(known["scales"])
    return Protocol(**known).describe()


def format_colour(colour: Sequence[int]) -> str:
    """Write an RGB colour of 0 to 255 for CSS."""
    red, green, blue = (int(value) for value in colour)
    return f"rgb({red} {green} {blue})"


def build_colours(metrics: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the CSS colour of each class: that of the label space, else of the palette."""
    count = len(metrics.get("classes", ()))
    saved = metrics.get("label_space", {}).get("colours") or build_palette(count)
    return tuple(format_colour(colour) for colour in saved[:count])


def build_class_rows(metrics: Mapping[str, Any]) -> tuple[ClassRow, ...]:
    """Return a row a class, best IoU first, classes without one last."""
    classes = metrics.get("classes", ())
    colours = build_colours(metrics)
    total = sum(row["pixels"] for row in classes)
    rows = [
        ClassRow(
            name=row["name"],
            colour=colour,
            iou=row["iou"],
            iou_text=format_ratio(row["iou"]),
            interval=format_interval(row.get("iou_interval")) or MISSING,
            dice=format_ratio(row.get("dice")),
            recall=format_ratio(row["recall"]),
            precision=format_ratio(row["precision"]),
            pixel_share=format_percent(row["pixels"] / total if total else None),
            never_predicted=row["name"] in metrics.get("never_predicted", ()),
        )
        for row, colour in zip(classes, colours, strict=True)
    ]
    return tuple(sorted(rows, key=lambda row: -1.0 if row.iou is None else row.iou, reverse=True))


def build_band_rows(metrics: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    """Return the scores near boundaries: width, boundary IoU and trimap IoU, each with its interval.

    Args:
        metrics: The content of metrics.json.
    """
    return tuple(
        (
            row["width"],
            *(
                text
                for kind in ("boundary", "trimap")
                for text in (
                    format_ratio(row[f"{kind}_iou"]),
                    format_interval(row[f"{kind}_interval"]) or MISSING,
                )
            ),
        )
        for row in metrics.get("bands", ())
    )


def build_part_rows(metrics: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    """Return the recall of connected parts by their size, with its interval, and how many there are.

    Args:
        metrics: The content of metrics.json.
    """
    return tuple(
        (
            row["size"],
            format_ratio(row["recall"]),
            format_interval(row["recall_interval"]) or MISSING,
            format_count(row["parts"]),
            format_count(row["pixels"]),
        )
        for row in metrics.get("parts", ())
    )


def describe_calibration(metrics: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what is known of confidences, a sentence each; nothing where they were not counted.

    Args:
        metrics: The content of metrics.json.
    """
    parts = (
        Calibration.from_json(metrics.get("calibration")),
        Foreground.from_json(metrics.get("foreground")),
    )
    return tuple(each.describe() for each in parts if each is not None)


def build_coverage_rows(metrics: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    """Return coverage and accuracy for some values of the least confidence.

    Args:
        metrics: The content of metrics.json.
    """
    return tuple(
        (f"{row['min_confidence']:g}", format_ratio(row["coverage"]), format_ratio(row["accuracy"]))
        for row in (metrics.get("calibration") or {}).get("coverage", ())
    )


def build_ladder_rows(metrics: Mapping[str, Any]) -> tuple[LadderRow, ...]:
    """Return the headline's protocol and the more expensive ones; nothing where only one was scored."""
    steps = list(metrics.get("ladder") or ())
    if not steps:
        return ()
    headline = describe_protocol(metrics.get("protocol"))
    if describe_protocol(steps[0].get("protocol")) != headline:
        steps.insert(0, {"describe": headline, "miou": metrics.get("miou")})
    first = steps[0]["miou"]
    return tuple(
        LadderRow(
            protocol=step.get("describe") or describe_protocol(step.get("protocol")),
            miou=format_ratio(step["miou"]),
            difference=""
            if place == 0
            else format_difference(None if None in (first, step["miou"]) else step["miou"] - first),
        )
        for place, step in enumerate(steps)
    )


def build_stage_rows(
    stages: Sequence[Mapping[str, Any]], records: Sequence[Mapping[str, Any]], folders: Sequence[str]
) -> tuple[StageRow, ...]:
    """Return a row a stage, in the order in which they were trained.

    Args:
        stages: What each set, by dotted key.
        records: The metrics of each; empty where it has none yet.
        folders: Name of each stage's folder.
    """
    return tuple(
        StageRow(
            number=number,
            settings=", ".join(f"{key}: {format_value(value)}" for key, value in settings.items()) or MISSING,
            protocol=" · ".join(filter(None, (metrics.get("data"), describe_protocol(metrics.get("protocol"))))),
            miou=format_ratio(metrics.get("miou")),
            folder=folder,
        )
        for number, (settings, metrics, folder) in enumerate(zip(stages, records, folders, strict=True), start=1)
    )


def build_matrix(metrics: Mapping[str, Any]) -> tuple[MatrixRow, ...]:
    """Return the confusion matrix with each row divided by its true class's pixels, classes in the data's order."""
    names = [row["name"] for row in metrics.get("classes", ())]
    counts = metrics.get("confusion") or ()
    numbered = len(counts) <= LARGEST_NUMBERED_MATRIX
    rows = []
    for truth, colour, row in zip(names, build_colours(metrics), counts, strict=bool(counts)):
        total = sum(row)
        cells = []
        for prediction, pixels in zip(names, row, strict=True):
            share = pixels / total if total else None
            title = f"{truth} labelled {prediction}: {format_percent(share)}, {describe_count(pixels, 'pixel')}"
            text = _format_cell(share) if numbered else ""
            cells.append(MatrixCell(share, math.sqrt(share or 0), text, title, prediction == truth))
        rows.append(MatrixRow(truth, colour, tuple(cells)))
    return tuple(rows)


def _format_cell(share: float | None) -> str:
    """Write a share in at most three signs, so that twelve columns fit: "97", "3", "·" for next to nothing."""
    if share is None:
        return MISSING
    return "·" if share < 0.005 else f"{share * 100:.0f}"


def list_confused(metrics: Mapping[str, Any], *, count: int = 6) -> tuple[Confused, ...]:
    """Return the pairs that lose the largest share of a true class's pixels, each at least one percent.

    Args:
        metrics: The content of metrics.json.
        count: Most pairs to return.
    """
    names = [row["name"] for row in metrics.get("classes", ())]
    found = [
        (pixels / sum(row), pixels, truth, prediction)
        for truth, row in enumerate(metrics.get("confusion") or ())
        for prediction, pixels in enumerate(row)
        if truth != prediction and pixels and pixels / sum(row) >= SMALLEST_LISTED_CONFUSION
    ]
    found.sort(key=lambda entry: (-entry[0], entry[2], entry[3]))
    return tuple(
        Confused(names[truth], names[prediction], format_percent(share), format_count(pixels))
        for share, pixels, truth, prediction in found[:count]
    )


def build_facts(values: Any) -> tuple[tuple[str, str], ...]:
    """Flatten a saved mapping into rows of name and value; nested names are joined by a space."""
    if not isinstance(values, Mapping):
        return (("", format_value(values)),) if values else ()
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        words, format_own = _FACTS.get(str(key), (str(key).replace("_", " "), format_value))
        if isinstance(value, Mapping):
            rows += [(f"{words} {inner}".strip(), text) for inner, text in build_facts(value)]
        else:
            rows.append((words, format_own(value)))
    return tuple(rows)


def _format_mebibytes(value: float | None) -> str:
    return MISSING if value is None else f"{value / 1024:.1f} GiB"


_FACTS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "data_wait_fraction": ("time spent waiting for images", format_percent),
    "memory_mib": ("memory", _format_mebibytes),
}
"""What the keys of records that name a unit are called, and how their values are written."""


def list_warnings(metrics: Mapping[str, Any], validations: Sequence[Validation]) -> tuple[tuple[str, str], ...]:
    """Return what a reader must know before relying on the score, as pairs of a finding and advice.

    Args:
        metrics: The content of metrics.json; empty before a training has ended.
        validations: The rows of metrics.csv.
    """
    training = metrics.get("training", {})
    found = []
    if not metrics or training.get("interrupted"):
        last = training.get("steps", validations[-1].step if validations else None)
        planned = training.get("planned_steps")
        where = f"at step {format_count(last)}" + (f" of {format_count(planned)}" if planned else "")
        found.append((f"The training was interrupted {where}.", "The numbers are those of the steps done so far."))
    never = metrics.get("never_predicted") or ()
    if never:
        subject = f"{describe_count(len(never), 'class')} with pixels {'was' if len(never) == 1 else 'were'}"
        found.append(
            (
                f"{subject} never predicted: {', '.join(never)}.",
                "To look at, in this order: the labels, the ignored ids, the learning rate, the starting weights, "
                "the length of the training, and the share of pixels (training.class_weights: auto).",
            )
        )
    baseline = metrics.get("baseline") or {}
    miou, floor = metrics.get("miou"), baseline.get("miou")
    if miou is not None and floor is not None and miou <= floor:
        found.append(
            (
                f"Score not above the baseline: labelling every pixel as “{baseline.get('class')}” does as well.",
                "",
            )
        )
    if metrics and miou is None:
        found.append(("There is no score.", "No class has a pixel in truth or prediction."))
    return tuple(found)


def rank_image(metrics: Mapping[str, Any], miou: float | None) -> str:
    """Return the rank of an image by its own mIoU, such as "rank 3 of 101"; empty if unknown.

    Args:
        metrics: The content of metrics.json.
        miou: mIoU of the image.
    """
    known = [row["miou"] for row in metrics.get("images", ()) if row["miou"] is not None]
    if miou is None or not known:
        return ""
    return f"rank {1 + sum(other > miou for other in known)} of {len(known)}"


def read_validations(text: str) -> tuple[Validation, ...]:
    """Read metrics.csv; a last row that an interruption cut short is skipped.

    Args:
        text: The file's content, a header line first.
    """
    rows = []
    for row in csv.DictReader(io.StringIO(text)):
        step = _read_number(row.get("step"))
        if step is None or None in row.values():
            continue
        rows.append(
            Validation(
                step=int(step),
                epoch=_read_number(row.get("epoch")),
                seconds=_read_number(row.get("seconds")),
                lr=_read_number(row.get("lr")),
                loss=_read_number(row.get("loss")),
                miou=_read_number(row.get("miou")),
                pixel_accuracy=_read_number(row.get("pixel_accuracy")),
                never_predicted=row.get("never_predicted") or "",
            )
        )
    return tuple(rows)


def _read_number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def pair_curve(validations: Sequence[Validation], name: str) -> tuple[tuple[int, float], ...]:
    """Return (step, value) of one column where it has a number.

    Args:
        validations: The rows of metrics.csv.
        name: Name of the column.
    """
    values = ((row.step, getattr(row, name)) for row in validations)
    return tuple((step, value) for step, value in values if value is not None)
