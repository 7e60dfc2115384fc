"""A study's saved table as Markdown: our numbers beside the paper's, and what they say of its orderings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from atrous.core.words import describe_count
from atrous.reports.tables import MISSING, format_duration

COLUMNS = ("row", "mIoU %", "paper %", "params", "GFLOPs", "training", "s/image")
CLAIM_COLUMNS = ("the paper's ordering", "difference", "verdict")
FIELD_COLUMNS = ("network", "theoretical, pixels", "effective, pixels")
SHOWN_RATES = (1, 6, 12, 18, 24, 36, 48, 60, 64, 65)


def format_study(table: Mapping[str, Any]) -> str:
    """Return the page of a study, from what `table.json` holds."""
    base = table["base"]
    lines = [
        f"# {table['table']}: {table['title']}",
        "",
        f"In the paper: {table['paper_protocol']}",
        "",
        f"Here: {base['data']}, {base['backbone']} (weights: {base['weights']}), "
        f"{describe_count(base['iterations'], 'step')}, "
        f"batch {base['batch']}, crop {base['crop']}, seeds {', '.join(map(str, table['seeds']))}.",
        *(f"Note: {note}." for note in table["notes"]),
        "",
        *_format_table(COLUMNS, [build_row(row) for row in table["rows"]]),
        "",
        "mIoU: mean and standard error over the seeds. GFLOPs: of one image of the crop's size under the row's "
        "protocol. s/image: to read, label and count one.",
        "",
    ]
    if table["claims"]:
        claims = [build_claim(claim) for claim in table["claims"]]
        lines += [*_format_table(CLAIM_COLUMNS, claims), ""]
        lines += ["A gap counts above two standard errors of the paired differences of equal seeds.", ""]
    return "\n".join(lines)


def build_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the cells of one row, as COLUMNS names them."""
    if row["not_possible"]:
        return row["label"], row["not_possible"], _format_percent(row["paper_miou"]), *[MISSING] * (len(COLUMNS) - 3)
    return (
        row["label"],
        _format_percent(row["miou"], row["standard_error"]),
        _format_percent(row["paper_miou"]),
        f"{row['parameters'] / 1e6:.2f} M",
        f"{row['image_gflops']:.2f}",
        format_duration(row["training_s"]),
        MISSING if row["image_s"] is None else f"{row['image_s']:.3f}",
    )


def build_claim(claim: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return a claim's sentence, the difference in points of mIoU, and the verdict."""
    verdict = f"{claim['word']} ({claim['reason']})" if claim["reason"] else claim["word"]
    return claim["sentence"], _format_percent(claim["difference"], claim["standard_error"], sign="+"), verdict


def _format_percent(value: float | None, error: float | None = None, *, sign: str = "-") -> str:
    if value is None:
        return MISSING
    text = f"{100 * value:{sign}.2f}"
    return text if error is None else f"{text} ± {100 * error:.2f}"


def _format_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return [f"| {' | '.join(row)} |" for row in cells]


def format_figures(figures: Mapping[str, Any]) -> str:
    """Return the page of the figures, from what `figures.json` holds."""
    cells = figures["map_cells"]
    shares = [row for row in figures["taps"] if row["rate"] in SHOWN_RATES]
    columns = ("rate", "all nine taps", "some", "the centre alone")
    rows = [[str(row["rate"]), *(f"{row[key]:.1%}" for key in ("nine", "some", "one"))] for row in shares]
    fields = [build_field(field) for field in figures["fields"]]
    return "\n".join(
        [
            "# The paper's Figure 4, and how far each network sees",
            "",
            f"Share of positions on a map of {cells} x {cells} cells by the taps of a 3x3 filter that fall inside it:",
            "",
            *_format_table(columns, rows),
            "",
            f"Families on {figures['backbone']} with random weights at output stride 16. Theoretical: the pixels that "
            "a logit can depend on. Effective: those with at least 4.55 % of the largest gradient, on random images "
            f"of {figures['image_px']} x {figures['image_px']} pixels, as the side of a square of as many.",
            "",
            *_format_table(FIELD_COLUMNS, fields),
            *(f"{name}: {reason}" for name, reason in figures["not_possible"].items()),
            "",
        ]
    )


def build_field(field: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return the cells of one network's receptive field, as FIELD_COLUMNS names them."""
    theoretical = field["theoretical_px"]
    return (
        field["network"],
        "the whole image" if theoretical is None else f"{theoretical:,}",
        f"{field['effective_px']:.0f}",
    )
