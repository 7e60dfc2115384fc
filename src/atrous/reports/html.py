"""The report of a run: one HTML file that needs nothing outside itself. The only place that imports jinja2."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from atrous.core.data_source import PYTHON_SOURCE
from atrous.core.errors import ModelFileError
from atrous.core.files import save_text
from atrous.core.labels import VOID_COLOUR
from atrous.core.metrics_file import load_metrics
from atrous.core.run_folder import RunFolder
from atrous.core.words import describe_count
from atrous.reports import tables

_MIME_TYPES = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png"}
_TRAINING_SHOWN = (
    "model",
    "data",
    "parameters",
    "steps",
    "planned_steps",
    "seconds",
    "seed",
    "best_step",
    "best_miou",
    "interrupted",
)


_CELL_COLOURS = "--ink: currentColor; --muted: #7b7f86; --line: #8886; --accent: #2a78d6; --surface: transparent"
"""The colours of charts outside a report, on light and on dark pages."""


@dataclass(frozen=True)
class Image:
    """An embedded image of an example; `uri` is None where the run has no such file."""

    role: str
    uri: str | None


@dataclass(frozen=True)
class Example:
    """An image, its truth and the prediction."""

    key: str
    miou: str
    rank: str
    images: tuple[Image, ...]


@dataclass(frozen=True)
class Chart:
    """A drawn curve with its title and the words that say the same."""

    title: str
    words: str
    svg: Markup


def write_report(folder: Path) -> Path:
    """Write report.html from the saved records of a run and return its path.

    A section without records is omitted (a ladder, examples, the final scores of an interrupted run).

    Args:
        folder: The run's folder.
    Raises:
        ModelFileError: The folder holds neither metrics.json nor metrics.csv, or one of them is damaged.
    """
    run = RunFolder(folder)
    if not run.metrics.is_file() and not run.curve.is_file():
        raise ModelFileError(
            f"{folder} has neither {run.metrics.name} nor {run.curve.name}: nothing to report",
            "Give the folder of a run, such as runs/demo.",
        )
    metrics = load_metrics(run.metrics) if run.metrics.is_file() else {}
    try:
        validations = tables.read_validations(run.curve.read_text(encoding="utf-8")) if run.curve.is_file() else ()
        config = run.config.read_text(encoding="utf-8") if run.config.is_file() else ""
        page = _build_page(folder, metrics, validations, config)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise ModelFileError(
            f"{folder}: its records do not fit together: {type(error).__name__}: {error}",
            f"Restore {run.metrics.name}, {run.curve.name} and {run.config.name} as the training wrote them.",
        ) from error
    save_text(run.report, render_page("report.html.j2", page))
    return run.report


def render_page(template: str, page: Mapping[str, Any]) -> str:
    """Return a page as HTML.

    Args:
        template: Name of the template.
        page: The values that it shows.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,  # always: the template's name does not end in .html
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(page)


def describe_run(folder: Path, title: str) -> str:
    """Return the curves of a run as HTML for a notebook's cell, which has neither a page's style nor its width.

    Args:
        folder: The run's folder.
        title: What stands above them.
    """
    run = RunFolder(folder)
    validations = tables.read_validations(run.curve.read_text(encoding="utf-8")) if run.curve.is_file() else ()
    baseline = (load_metrics(run.metrics) if run.metrics.is_file() else {}).get("baseline") or {}
    charts = "".join(
        f'<figure style="display: inline-block; width: 320px; margin: 4px 12px 4px 0">'
        f"<figcaption>{escape(chart.title)}: {escape(chart.words)}</figcaption>{chart.svg}</figure>"
        for chart in _draw_charts(validations, baseline.get("miou"))
    )
    return f'<div style="{_CELL_COLOURS}"><div>{escape(title)}</div>{charts}</div>'


def _build_page(
    run_folder: Path, metrics: Mapping[str, Any], validations: Sequence[tables.Validation], config: str
) -> dict[str, Any]:
    training = metrics.get("training", {})
    baseline = metrics.get("baseline") or {}
    miou = metrics.get("miou")
    if not metrics:
        miou = max((row.miou for row in validations if row.miou is not None), default=None)
    names = [row["name"] for row in metrics.get("classes", ())]
    interval, intervals = tables.describe_intervals(metrics)
    colours = (*tables.build_colours(metrics), tables.format_colour(VOID_COLOUR))
    return {
        "title": " on ".join(filter(None, (_find_model(metrics), metrics.get("data")))) or run_folder.resolve().name,
        "run": run_folder.resolve().name,
        "data": metrics.get("data") or "data not recorded",
        "protocol": tables.describe_protocol(metrics.get("protocol")),
        "miou": miou,
        "miou_text": tables.format_ratio(miou),
        "interval": interval,
        "intervals": intervals,
        "miou_over": metrics.get("miou_over", ""),
        "is_final": bool(metrics),
        "pixel_accuracy": tables.format_percent(metrics.get("pixel_accuracy")),
        "baseline_miou": baseline.get("miou"),
        "baseline_text": tables.format_ratio(baseline.get("miou")),
        "baseline": _describe_baseline(baseline),
        "baseline_class": baseline.get("class") or tables.MISSING,
        "num_images": tables.format_count(len(metrics["images"])) if metrics.get("images") else "",
        "warnings": tables.list_warnings(metrics, validations),
        "trained": _list_trained(metrics, validations),
        "stages": _list_stages(run_folder, metrics, config),
        "ladder": tables.build_ladder_rows(metrics),
        "charts": _draw_charts(validations, baseline.get("miou")),
        "validations": [_format_validation(row) for row in validations],
        "best_step": training.get("best_step"),
        "classes": tables.build_class_rows(metrics),
        "bands": tables.build_band_rows(metrics),
        "parts": tables.build_part_rows(metrics),
        "calibration": tables.describe_calibration(metrics),
        "coverage": tables.build_coverage_rows(metrics),
        "matrix": tables.build_matrix(metrics),
        "matrix_is_numbered": len(names) <= tables.LARGEST_NUMBERED_MATRIX,
        "confused": tables.list_confused(metrics),
        "legend": tuple(zip((*names, "ignored"), colours, strict=True)),
        "examples": _build_examples(run_folder, metrics),
        "notes": metrics.get("notes") or (),
        "versions": tables.build_facts(metrics.get("versions")),
        "machine": tables.build_facts(metrics.get("machine")),
        "config": config,
        "commands": _list_commands(run_folder, metrics, config),
    }


def _describe_baseline(baseline: Mapping[str, Any]) -> str:
    if baseline.get("miou") is None:
        return "baseline not computed"
    return f"baseline “{baseline['class']}” everywhere {tables.format_ratio(baseline['miou'])}"


def _find_model(metrics: Mapping[str, Any]) -> str:
    model = metrics.get("model") or metrics.get("training", {}).get("model") or ""
    return str(model.get("name", "") if isinstance(model, Mapping) else model)


def _list_trained(metrics: Mapping[str, Any], validations: Sequence[tables.Validation]) -> tuple[tuple[str, str], ...]:
    """Say what was trained on what, for how long; whatever else the run noted follows."""
    training = metrics.get("training", {})
    last = validations[-1] if validations else None
    steps = tables.format_count(training.get("steps", last.step if last else None))
    planned = training.get("planned_steps")
    facts = [
        ("model", _find_model(metrics) or tables.MISSING),
        ("parameters", tables.format_parameters(training.get("parameters"))),
        ("trained on", tables.format_value(training.get("data"))),
        ("scored on", metrics.get("data") or tables.MISSING),
        ("steps", f"{steps} of {tables.format_count(planned)}" if planned else steps),
        ("time", tables.format_duration(training.get("seconds", last.seconds if last else None))),
        ("seed", tables.format_value(training.get("seed"))),
        ("best step", tables.format_count(training.get("best_step"))),
    ]
    others = {name: value for name, value in training.items() if name not in _TRAINING_SHOWN}
    return (*facts, *tables.build_facts(others))


def _list_stages(run_folder: Path, metrics: Mapping[str, Any], config: str) -> tuple[tables.StageRow, ...]:
    """Return a row a stage: those before from their own records, the last from the run's."""
    stages = _load_settings(config).get("stages")
    if not stages:
        return ()
    earlier = [RunFolder(run_folder).stage(number) for number in range(1, len(stages))]
    records = [load_metrics(stage.metrics) if stage.metrics.is_file() else {} for stage in earlier]
    return tables.build_stage_rows(stages, (*records, metrics), (*(stage.path.name for stage in earlier), "this run"))


def _draw_charts(validations: Sequence[tables.Validation], baseline: float | None) -> tuple[Chart, ...]:
    """Draw the columns of metrics.csv that hold a number."""
    from atrous.reports.plots import draw_curve  # matplotlib takes a second

    miou, loss, lr = (tables.pair_curve(validations, name) for name in ("miou", "loss", "lr"))
    charts = []
    if miou:
        step, best = max(miou, key=lambda point: point[1])
        words = f"Best {best:.3f} at step {step:,}; validated {describe_count(len(miou), 'time')}."
        svg = draw_curve(miou, label="mIoU", mark="highest", baseline=baseline)
        charts.append(Chart("Validation mIoU", words, Markup(svg)))
    if loss:
        svg = draw_curve(loss, label="loss", mark="last")
        charts.append(Chart("Training loss", _describe_change(loss, ".3f"), Markup(svg)))
    if lr:
        svg = draw_curve(lr, label="learning rate", mark="first", spec=".2g")
        charts.append(Chart("Learning rate", _describe_change(lr, ".2g"), Markup(svg)))
    return tuple(charts)


def _describe_change(points: Sequence[tuple[int, float]], spec: str) -> str:
    first, last = (f"{value:{spec}} at step {step:,}" for step, value in (points[0], points[-1]))
    return f"{first}." if len(points) == 1 else f"From {first} to {last}."


def _format_validation(row: tables.Validation) -> tuple[str, ...]:
    return (
        tables.format_count(row.step),
        tables.MISSING if row.epoch is None else f"{row.epoch:.1f}",
        tables.format_duration(row.seconds),
        tables.MISSING if row.lr is None else f"{row.lr:.2g}",
        tables.format_ratio(row.loss),
        tables.format_ratio(row.miou),
        tables.format_percent(row.pixel_accuracy),
        row.never_predicted or tables.MISSING,
    )


def _build_examples(run_folder: Path, metrics: Mapping[str, Any]) -> tuple[tuple[str, tuple[Example, ...]], ...]:
    """Return the examples in groups: the better half best first, the worse half worst first."""
    saved = sorted(
        metrics.get("examples") or (), key=lambda row: -1.0 if row["miou"] is None else row["miou"], reverse=True
    )
    examples = [
        Example(
            key=row["key"],
            miou=tables.format_ratio(row["miou"]),
            rank=tables.rank_image(metrics, row["miou"]),
            images=tuple(
                Image(role, _embed_image(run_folder, row.get(role))) for role in ("image", "truth", "prediction")
            ),
        )
        for row in saved
    ]
    half = (len(examples) + 1) // 2
    groups = (("Best", tuple(examples[:half])), ("Worst", tuple(reversed(examples[half:]))))
    return tuple((name, group) for name, group in groups if group)


def _embed_image(run_folder: Path, name: str | None) -> str | None:
    """Return an image of the run as a data URI, or None where the run has no such image."""
    path = (run_folder / (name or "")).resolve()
    mime = _MIME_TYPES.get(path.suffix.lower())
    if mime is None or not path.is_relative_to(run_folder.resolve()) or not path.is_file():
        return None
    return f"data:{mime};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def _list_commands(run_folder: Path, metrics: Mapping[str, Any], config: str) -> tuple[tuple[str, str], ...]:
    """Return commands for the run that work in any folder; calls in Python if its data were Python objects."""
    own = RunFolder(run_folder.resolve())
    run, recipe, whole = own.path, own.config, own.find_whole().path
    if _find_source(config) == PYTHON_SOURCE:
        score = f"atrous.evaluate({str(run)!r}, val, output_stride=8, scales=(0.75, 1, 1.25), flip=True)"
        again = f"atrous.train((train, val), recipe={str(recipe)!r})"
        resume = f"atrous.train((train, val), resume={str(whole)!r})"
    else:
        score = shlex.join(["atrous", "eval", str(run), *"--output-stride 8 --scales 0.75,1,1.25 --flip".split()])
        again = shlex.join(["atrous", "train", "--recipe", str(recipe)])
        resume = shlex.join(["atrous", "train", "--resume", str(whole)])
    commands = [
        ("Score again at a smaller output stride, with more scales and flip", score),
        ("Label your own images", f"atrous predict IMAGES --model {shlex.quote(str(run))} --out predictions"),
        ("Train again with the same settings", again),
    ]
    if not metrics or metrics.get("training", {}).get("interrupted"):
        commands.insert(0, ("Continue the interrupted training", resume))
    return tuple(commands)


def _find_source(config: str) -> Any:
    """Return the `data.source` in the settings of a run; None if they cannot be read."""
    settings = _load_settings(config)
    data = settings.get("data")
    return data.get("source") if isinstance(data, Mapping) else None


def _load_settings(config: str) -> Mapping[str, Any]:
    """Return the settings of a run; none if they cannot be read."""
    try:
        settings = YAML(typ="safe", pure=True).load(config)
    except YAMLError:
        return {}
    return settings if isinstance(settings, Mapping) else {}
