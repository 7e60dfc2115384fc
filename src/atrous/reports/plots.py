"""Charts: those of a report as inline SVG, those of studies as PNG files. The only place that imports matplotlib.

A report's colours are written as CSS variables of the page, so that one drawing serves light, dark and print.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from atrous.core.calibration import Calibration, Foreground
from atrous.core.files import atomic_path

# Matplotlib knows no CSS variables: it draws with these stand-ins, which occur nowhere else in a chart.
_INK, _MUTED, _LINE, _ACCENT, _SURFACE = "#010101", "#020202", "#030303", "#040404", "#050505"
_CSS_VARIABLES = {_INK: "--ink", _MUTED: "--muted", _LINE: "--line", _ACCENT: "--accent", _SURFACE: "--surface"}
_SIZE_INCHES = (3.9, 2.35)
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9.0,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": _LINE,
    "grid.linewidth": 0.8,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "text.color": _INK,
}

_PNG_STYLE: dict[Any, Any] = {
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
}
_PNG_DPI = 150


def draw_curve(
    points: Sequence[tuple[int, float]],
    *,
    label: str,
    mark: Literal["first", "last", "highest"],
    baseline: float | None = None,
    spec: str = ".3f",
) -> str:
    """Draw one value over the training steps, with one point labelled by its value.

    Args:
        points: (step, value), at least one; a single point is drawn as a dot.
        label: Name of the value, for the vertical axis.
        mark: The point that gets a label.
        baseline: A level to compare with, drawn as a dashed line.
        spec: Format of the labelled value.
    Returns:
        An `<svg>` element without any reference to something outside it.
    """
    with mpl.rc_context({**_STYLE, "svg.hashsalt": label}):
        figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
        axes = figure.add_subplot()
        steps, values = zip(*points, strict=True)
        axes.plot(steps, values, color=_ACCENT, linewidth=1.8, solid_capstyle="round", solid_joinstyle="round")
        chosen = {"first": 0, "last": len(points) - 1, "highest": values.index(max(values))}[mark]
        axes.plot([steps[chosen]], [values[chosen]], "o", color=_ACCENT, markersize=6, markeredgecolor=_SURFACE)
        if baseline is not None:
            axes.axhline(baseline, color=_MUTED, linewidth=1.0, linestyle=(0, (4, 3)))
        _set_axes(axes, label, steps, (*values, *(() if baseline is None else (baseline,))))
        _write_label(axes, steps, steps[chosen], values[chosen], format(values[chosen], spec))
        if baseline is not None:
            _write_label(axes, steps, max(steps), baseline, f"baseline {baseline:{spec}}", muted=True)
        buffer = io.StringIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    return _make_inline(buffer.getvalue())


def _set_axes(axes: Axes, label: str, steps: Sequence[int], values: Sequence[float]) -> None:
    """Start both axes at zero, with few ticks and room for a label above the highest point."""
    axes.set_xlabel("step", loc="right")
    axes.set_ylabel(label)
    axes.set_xlim(0, max(steps) * 1.03 or 1)
    axes.set_ylim(min(0.0, *values), max(*values, 0.0) * 1.18 or 1.0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _write_label(axes: Axes, steps: Sequence[int], step: int, value: float, text: str, *, muted: bool = False) -> None:
    """Write a text above a point, leaning to the side that has room."""
    share = step / (max(steps) or 1)
    side: Literal["left", "center", "right"] = "left" if share < 0.15 else "right" if share > 0.85 else "center"
    axes.annotate(
        text,
        (step, value),
        xytext=(0, 4 if muted else 6),
        textcoords="offset points",
        ha=side,
        va="bottom",
        color=_MUTED if muted else _INK,
        weight="normal" if muted else "bold",
    )


def _make_inline(text: str) -> str:
    """Leave only what a page needs: no file head, page-wide style, shared ids, fixed size or fonts; set the colours."""
    svg = text[text.index("<svg") :].strip()
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r" font-family: [^;\"]*;", "", svg)
    svg = re.sub(r' id="[a-z0-9.]+_\d+"', "", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    for colour, variable in _CSS_VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg


def save_study_plot(table: Mapping[str, Any], path: Path) -> None:
    """Draw the rows of a study beside the paper's as two panels of points with their standard errors, and save a PNG.

    The panels have scales of their own: other data and another network give other numbers, and the order is compared.

    Args:
        table: The results of the study, as in its table.json.
        path: The PNG file.
    """
    rows = list(reversed(table["rows"]))
    labels = [row["label"] for row in rows]
    panels = (("here", "miou", "standard_error"), ("in the paper", "paper_miou", None))
    with mpl.rc_context(_PNG_STYLE):
        figure = Figure(figsize=(9.0, 1.2 + 0.32 * len(rows)), layout="constrained")
        for place, (title, key, error_key) in enumerate(panels, start=1):
            axes = figure.add_subplot(1, 2, place)
            known = [(at, row) for at, row in enumerate(rows) if row[key] is not None]
            errors = [100 * ((row[error_key] if error_key else None) or 0.0) for _, row in known]
            values = [100 * row[key] for _, row in known]
            axes.errorbar(values, [at for at, _ in known], xerr=errors, fmt="o", color="#1f5fa8", capsize=3)
            axes.set_yticks(range(len(rows)), labels if place == 1 else [""] * len(rows))
            axes.set_ylim(-0.6, len(rows) - 0.4)
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.margins(x=0.1)
            axes.set_xlabel("mIoU %")
            axes.set_title(title)
            for at, row in enumerate(rows):
                if key == "miou" and row["not_possible"]:
                    place_of_words = axes.get_yaxis_transform()
                    axes.text(
                        0.5, at, "not possible", transform=place_of_words, color="#777777", ha="center", va="center"
                    )
        figure.suptitle(table["title"])
        _save_png(figure, path)


def save_bench_plot(found: Mapping[str, Any], path: Path) -> None:
    """Draw the time each model took, a panel per image size, with the spread over its rounds, and save a PNG.

    Args:
        found: The results, as in bench.json.
        path: The PNG file.
    """
    rows = list(reversed(found["rows"]))
    sizes = list(dict.fromkeys((row["width"], row["height"]) for row in found["rows"]))
    labels = list(dict.fromkeys(_name_bench_row(row) for row in rows))
    with mpl.rc_context(_PNG_STYLE):
        figure = Figure(figsize=(5.0 + 3.5 * len(sizes), 1.2 + 0.4 * len(labels)), layout="constrained")
        for place, (width, height) in enumerate(sizes, start=1):
            axes = figure.add_subplot(1, len(sizes), place)
            shown = [row for row in rows if (row["width"], row["height"]) == (width, height)]
            medians = [1e3 * row["median_s"] for row in shown]
            spread = [[1e3 * abs(row[key] - row["median_s"]) for row in shown] for key in ("least_s", "most_s")]
            axes.barh(range(len(shown)), medians, xerr=spread, color="#1f5fa8", ecolor="#777777", capsize=3)
            axes.set_yticks(range(len(labels)), labels if place == 1 else [""] * len(labels))
            axes.set_xlabel("ms")
            axes.set_title(f"{width} x {height} pixels")
        _save_png(figure, path)


def _name_bench_row(row: Mapping[str, Any]) -> str:
    backend = "" if row["backend"] == "auto" else f", {row['backend']}"
    return f"{row['name']}{backend}, stride {row['output_stride']}, {row['precision']}"


def save_taps_plot(figures: Mapping[str, Any], path: Path) -> None:
    """Draw the shares of positions with one, some and all nine taps inside the map, by rate, and save a PNG.

    Args:
        figures: The shares by rate.
        path: The PNG file.
    """
    names = {"nine": "all nine taps", "some": "some", "one": "the centre alone"}
    rates = [row["rate"] for row in figures["taps"]]
    with mpl.rc_context(_PNG_STYLE):
        figure = Figure(figsize=(5.5, 3.5), layout="constrained")
        axes = figure.add_subplot()
        for key, name in names.items():
            axes.plot(rates, [100 * row[key] for row in figures["taps"]], label=name)
        axes.set_xlabel("rate")
        axes.set_ylabel("positions %")
        axes.set_title(f"Taps of a 3x3 filter inside {figures['map_cells']} x {figures['map_cells']} cells")
        axes.legend(frameon=False)
        _save_png(figure, path)


def save_fields_plot(figures: Mapping[str, Any], maps: Mapping[str, Any], path: Path) -> None:
    """Draw each network's gradient around the centre, with the square that it can see, and save a PNG.

    Args:
        figures: What `figures.json` holds.
        maps: (H, W) gradient sizes by network.
        path: The image's file.
    """
    columns = 4
    rows = -(-len(maps) // columns)
    with mpl.rc_context({**_PNG_STYLE, "axes.grid": False}):
        figure = Figure(figsize=(2.6 * columns, 3.0 * rows), layout="constrained")
        for place, field in enumerate(figures["fields"], start=1):
            gradient = maps[field["network"]]
            axes = figure.add_subplot(rows, columns, place)
            axes.imshow((gradient / gradient.max()) ** 0.5, cmap="magma")
            side, theoretical = gradient.shape[0], field["theoretical_px"]
            if theoretical is not None and theoretical < side:
                corner = (side - theoretical) / 2
                axes.add_patch(Rectangle((corner, corner), theoretical, theoretical, fill=False, edgecolor="white"))
            axes.set_title(f"{field['network']}\n{field['effective_px']:.0f} px effective", fontsize=8)
            axes.set_axis_off()
        _save_png(figure, path)


def save_reliability_plot(calibration: Calibration, path: Path) -> None:
    """Draw accuracy against confidence, with the share of pixels below, and save a PNG.

    Args:
        calibration: What was counted.
        path: The PNG file.
    """
    confidence = [row.confidence for row in calibration.bins]
    with mpl.rc_context(_PNG_STYLE):
        figure = Figure(figsize=(4.2, 5.6), layout="constrained")
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        upper.plot([0, 1], [0, 1], color="#777777", linewidth=1.0, linestyle="--", label="as sure as correct")
        upper.plot(confidence, [row.accuracy for row in calibration.bins], "o-", color="#1f5fa8", label="these labels")
        upper.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy")
        upper.legend(frameon=False, loc="upper left")
        error, temperature = calibration.error, calibration.chosen.temperature
        upper.set_title(f"calibration error {error:.4f}, temperature {temperature:.3g}")
        lower.bar(
            confidence, [100 * row.pixels / calibration.pixels for row in calibration.bins], 0.05, color="#1f5fa8"
        )
        lower.set(xlabel="confidence", ylabel="pixels %")
        _save_png(figure, path)


def save_threshold_plot(foreground: Foreground, path: Path) -> None:
    """Draw precision against recall of the second of two classes, with the best threshold, and save a PNG.

    Args:
        foreground: What was counted.
        path: The PNG file.
    """
    points = [(row.recall, row.precision) for row in foreground.rows if row.precision is not None]
    best = foreground.best
    with mpl.rc_context(_PNG_STYLE):
        figure = Figure(figsize=(4.2, 4.2), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(*zip(*points, strict=True), ".-", color="#1f5fa8")
        label = f"best F1, {best.f1:.3f}: from a probability of {best.threshold:.3f} on"
        axes.plot([best.recall], [best.precision or 0.0], "o", color="#c04a1a", label=label)
        axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="recall", ylabel="precision", title=foreground.name)
        axes.legend(frameon=False, loc="lower left")
        _save_png(figure, path)


def _save_png(figure: Figure, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_PNG_DPI, metadata={"Software": None})
