"""Tables of scores. Every mIoU comes with the most-frequent-class baseline and the classes never predicted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table

from atrous.core.records import format_interval
from atrous.core.words import describe_count

if TYPE_CHECKING:
    from atrous.core.comparison import Comparison
    from atrous.core.records import Scores


NARROWEST_TEXT = 16
"""Width to which a column of text is folded before a table gets wider than the terminal."""


class WholeTable(Table):
    """A table that folds text and cuts no number: if they need more than the terminal's width, it is wider."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the table.

        Args:
            console: Where it is drawn.
            options: How wide the terminal is, among others.
        """
        text = [column for column in self.columns if column.justify == "left"]
        for column in self.columns:
            column.no_wrap = column not in text
        for column in text:
            column.max_width = NARROWEST_TEXT
        needed = Measurement.get(console, options.update(max_width=10**6), self).maximum
        for column in text:
            column.max_width = None
        return super().__rich_console__(console, options.update(max_width=max(options.max_width, needed)))


def build_table(*columns: str, title: str = "") -> Table:
    """Return an empty table whose columns after the first are right-aligned, for numbers.

    Args:
        columns: Headings.
        title: Title above the table. Default: none.
    """
    table = WholeTable(title=title or None, box=SIMPLE, title_justify="left", title_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    return table


def print_scores(console: Console, scores: Scores, *, title: str) -> None:
    """Print one row per class, then the mIoU with its baseline and protocol.

    Args:
        console: Where to print.
        scores: The scores.
        title: Title above the table.
    """
    table = build_table("class", "IoU", "95 % interval", "Dice", "recall", "precision", "pixels", title=title)
    for row in scores.classes:
        interval = format_interval(row.iou_interval) or "-"
        table.add_row(
            row.name,
            _format(row.iou),
            interval,
            *map(_format, (row.dice, row.recall, row.precision)),
            f"{row.pixels:,}",
        )
    console.print(table)
    _print_details(console, scores)
    console.print(describe_miou(scores), style="bold")
    if scores.miou_before_crf is not None:
        console.print(f"without DenseCRF: mIoU {_format(scores.miou_before_crf)}", style="bold")
    if scores.intervals is not None:
        console.print(scores.intervals.describe())
    console.print(f"protocol: {scores.protocol.describe()}")
    for note in scores.notes:
        console.print(note)


def _print_details(console: Console, scores: Scores) -> None:
    """Print the scores near boundaries, by the size of parts and by confidence, where these were counted."""
    if scores.bands:
        table = build_table("near boundaries", "boundary IoU", "95 % interval", "trimap IoU", "95 % interval")
        for band in scores.bands:
            boundary, trimap = (format_interval(each) or "-" for each in (band.boundary_interval, band.trimap_interval))
            table.add_row(band.width, _format(band.boundary_iou), boundary, _format(band.trimap_iou), trimap)
        console.print(table)
    if scores.parts:
        table = build_table("connected parts", "recall", "95 % interval", "parts", "pixels")
        for part in scores.parts:
            interval = format_interval(part.recall_interval) or "-"
            table.add_row(part.size, _format(part.recall), interval, f"{part.parts:,}", f"{part.pixels:,}")
        console.print(table)
    if scores.calibration is not None:
        table = build_table("min_confidence", "coverage", "accuracy")
        for least in scores.calibration.coverage:
            table.add_row(f"{least.min_confidence:g}", f"{least.coverage:.4f}", _format(least.accuracy))
        console.print(table)
        console.print(scores.calibration.describe())
    if scores.foreground is not None:
        console.print(scores.foreground.describe())


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Print the differences of all models to the first one, class by class, and the verdicts.

    Args:
        console: Where to print.
        comparison: What was compared.
    """
    for difference in comparison.differences:
        title = f"{difference.name} against {difference.reference}"
        table = build_table("class", difference.reference, difference.name, "difference", "95 % interval", title=title)
        for row in difference.classes:
            shown = format_change(row.difference), format_change(row.interval)
            table.add_row(row.name, _format(row.reference_iou), _format(row.iou), *shown)
        console.print(table)
        if difference.images:
            console.print("images that differ most, by their own mIoU:")
        for image in difference.images:
            console.print(f"  {image.key}: {_format(image.reference_miou)} and {_format(image.miou)}")
    for number, line in enumerate(comparison.list_lines()):
        console.print(line, style="bold" if number < len(comparison.differences) else None)


def describe_miou(scores: Scores) -> str:
    """Return the mIoU with its baseline and the classes never predicted, in two lines."""
    scored = sum(row.iou is not None for row in scores.classes)
    over = f"{describe_count(len(scores.images), 'image')}, {scored} of {describe_count(len(scores.classes), 'class')}"
    baseline = f"{_format(scores.baseline_miou)} when always predicting {scores.baseline_class!r}"
    miou, accuracy = _format(scores.miou), _format(scores.pixel_accuracy)
    if scores.intervals is not None:
        miou += _format_between(scores.intervals.miou)
        accuracy += _format_between(scores.intervals.pixel_accuracy)
    line = f"mIoU {miou} ({over}; {baseline}); pixel accuracy {accuracy}"
    if not scores.never_predicted:
        return f"{line}\nevery class that occurs in the masks was predicted somewhere"
    return f"{line}\nnever predicted: {', '.join(scores.never_predicted)}"


def _format(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.4f}"


def _format_between(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f" in {format_interval(interval)}"


def format_change(change: float | tuple[float, float] | None) -> str:
    """Write a difference, or the interval of one, with signs: "+0.0120", "-0.0041 to +0.0203"."""
    if change is None:
        return "-"
    return " to ".join(f"{value:+.4f}" for value in (change if isinstance(change, tuple) else (change,)))
