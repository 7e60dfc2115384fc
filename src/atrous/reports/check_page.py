"""The page of a check: findings, classes, and a contact sheet of images with their masks, in one HTML file."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from atrous.core.errors import DataError, UsageError
from atrous.core.files import save_text
from atrous.core.findings import CheckResult, Finding, list_fixes
from atrous.core.labels import VOID_COLOUR, LabelSpace
from atrous.core.output_folder import require_place, require_replaceable
from atrous.core.words import describe_count, escape_unprintable
from atrous.data.contracts import SegmentationDataset
from atrous.data.samples import find_form, find_window
from atrous.reports.html import render_page
from atrous.reports.tables import format_colour

MARK = "atrous check"
"""What a page says of itself, so that only such a page is replaced by the next one."""
SHEET_IMAGES = 24
LEGEND_CLASSES = 30
_SIDE_PX = 320
_VERDICTS = {
    "error": "A training refuses these data until the errors are fixed.",
    "warning": "A training accepts these data; the warnings may cost accuracy.",
    "note": "A training accepts these data.",
}


@dataclass(frozen=True)
class Thumbnail:
    """A small embedded image with its caption."""

    uri: str
    caption: str


def require_page_place(path: Path) -> None:
    """Refuse a path at which no page can be written, before the work that it shows.

    Raises:
        UsageError: There is a file of this name that is no such page, or there cannot be one.
        MachineError: There is no permission to write there, or no space.
    """
    require_place(path)
    start = path.read_bytes()[:1000] if path.is_file() else b""
    require_replaceable([path], is_own=f'content="{MARK}"'.encode() in start, overwrite=None)


def write_check_page(path: Path, result: CheckResult, datasets: Sequence[SegmentationDataset]) -> None:
    """Write what a check found as one self-contained HTML file.

    Args:
        path: The file; see `require_page_place`.
        result: What was found.
        datasets: The data to train on and to score on; none if no layout explains the files.
    """
    save_text(path, render_page("check.html.j2", _build_page(result, datasets)))


def _build_page(result: CheckResult, datasets: Sequence[SegmentationDataset]) -> dict[str, Any]:
    space = datasets[0].label_space if datasets else LabelSpace(())
    counts = {word: sum(finding.severity == word for finding in result.findings) for word in _VERDICTS}
    worst = next((word for word, count in counts.items() if count), "note")
    shown = list(_draw_sheet(datasets))
    num_pairs = sum(len(dataset) for dataset in datasets)
    colours = {number: format_colour(colour) for number, colour in zip(space.ids, space.colours, strict=True)}
    rows, rest = result.list_ids()
    drawn = _draw_findings(result.findings, datasets)
    return {
        "mark": MARK,
        "title": escape_unprintable(result.data),
        "layout": escape_unprintable(result.layout),
        "summary": ", ".join(describe_count(count, word) for word, count in counts.items()),
        "verdict": _VERDICTS[worst],
        "facts": [
            ("images", f"{result.num_images:,}"),
            ("pairs", f"{result.num_pairs:,}"),
            *((dataset.name, describe_count(len(dataset), "pair")) for dataset in datasets),
            ("classes", str(space.num_classes)),
        ],
        "findings": [
            {
                "severity": finding.severity,
                "code": finding.code,
                "message": finding.message,
                "fix": fix.get("text", ""),
                "command": fix.get("command", ""),
                "yaml": fix.get("yaml", "").rstrip(),
                "images": [drawn[name] for name in finding.files if name in drawn],
            }
            for finding, fix in zip(result.findings, list_fixes(result.findings), strict=True)
        ],
        "ids": [
            {
                "name": row.name,
                "id": row.id,
                "colour": colours.get(row.id, format_colour(VOID_COLOUR)),
                "percent": f"{100 * row.share:.2f}",
                "share": f"{100 * row.share:.2f} %",
                "pixels": f"{row.pixels:,}",
                "images": f"{row.images:,}",
            }
            for row in rows
        ],
        "rest": f"{describe_count(len(rest), 'more id')}" if rest else "",
        "legend": [(name, colours[number]) for name, number in zip(space.names, space.ids, strict=True)][
            :LEGEND_CLASSES
        ],
        "sheet": shown,
        "sheet_words": f"{describe_count(len(shown), 'image')} of {num_pairs:,}, at equal distances. "
        "Pixels of no class show the image alone.",
    }


def _draw_sheet(datasets: Sequence[SegmentationDataset]) -> Iterator[Thumbnail]:
    places = [(dataset, index) for dataset in datasets for index in range(len(dataset))]
    chosen = np.unique(np.linspace(0, max(0, len(places) - 1), SHEET_IMAGES).round().astype(int))
    for place in chosen[: len(places)]:
        dataset, index = places[place]
        thumbnail = _draw(dataset, index)
        if thumbnail is not None:
            yield thumbnail


def _draw_findings(findings: Sequence[Finding], datasets: Sequence[SegmentationDataset]) -> dict[str, Thumbnail]:
    """Draw the pairs of the files that errors and warnings name, by the name of the file."""
    wanted = {name for finding in findings if finding.severity != "note" for name in finding.files}
    drawn: dict[str, Thumbnail] = {}
    for dataset in datasets if wanted else ():
        for index in range(len(dataset)):
            names = {str(dataset.image_path(index)), str(dataset.mask_path(index)), dataset.key(index)} & wanted
            thumbnail = _draw(dataset, index) if names - drawn.keys() else None  # of many blocks the first one
            if thumbnail is not None:
                drawn.update(dict.fromkeys(names, thumbnail))
    return drawn


def _draw(dataset: SegmentationDataset, index: int) -> Thumbnail | None:
    """Return an image with its mask; alone if the mask cannot be drawn over it; None if it cannot be read."""
    from atrous.images.bands import load_bands, stretch_bands  # OpenCV; reports of runs are written without it
    from atrous.images.encode import encode_thumbnail
    from atrous.images.windows import load_window

    path, labels = dataset.image_path(index), None
    try:
        form = find_form(dataset)
        window = find_window(dataset, index)
        if path is None:
            image = dataset.get(index).image
        else:
            image = (load_bands(path, form) if window is None else load_window(path, window, form)).image
    except (DataError, UsageError):
        return None
    try:
        mask = dataset.mask(index)
        if mask.shape == image.shape[:2] and mask.dtype in (np.uint8, np.uint16):
            labels = mask
    except (DataError, UsageError):
        pass
    shown = stretch_bands(image, form)
    content = base64.b64encode(encode_thumbnail(shown, labels, dataset.label_space, _SIDE_PX)).decode("ascii")
    caption = escape_unprintable(dataset.key(index)) + ("" if labels is not None else " (without its mask)")
    return Thumbnail(f"data:image/jpeg;base64,{content}", caption)
