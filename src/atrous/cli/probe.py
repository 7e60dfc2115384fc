"""`atrous train --probe`: whether some data can be learned at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atrous.core.errors import DataError

if TYPE_CHECKING:
    from atrous.config.load import LoadedConfig
    from atrous.runs.probe import Probe


def probe_data(loaded: LoadedConfig, *, quiet: bool, as_json: bool) -> int:
    """Learn two images by heart, print what came of it, and return the exit code: 0, or 3 if they were not learned.

    Args:
        loaded: The settings of the training.
        quiet: Whether no progress is shown.
        as_json: Whether to print one JSON object.
    """
    from atrous import api
    from atrous.cli.console import open_display, print_json
    from atrous.display.console import build_console

    results: list[Probe] = []
    try:
        with open_display(quiet=quiet) as display:
            found = api.probe_training(loaded, display.progress, display.on_message, results.append)
    finally:  # also where the image could not be written
        for result in results:
            if as_json:
                print_json(result.to_json())
            else:
                _print(result)
    if found.sheet is not None and not as_json:
        build_console().print(f"images: {found.sheet}")
    return 0 if found.is_learned else DataError.exit_code


def _print(found: Probe) -> None:
    from rich.text import Text

    from atrous.cli.console import spell_options
    from atrous.core.words import escape_unprintable
    from atrous.display.console import build_console
    from atrous.display.tables import build_table
    from atrous.runs.probe import LIMITS

    console = build_console()
    table = build_table(
        "class", "pixels", "IoU before", "IoU after", "", title=escape_unprintable(found.describe_images())
    )
    for row in found.classes:
        ious = ("-" if iou is None else f"{iou:.3f}" for iou in (row.before, row.after))
        state = "learned" if row.is_learned else "not learned"
        table.add_row(escape_unprintable(row.name), f"{row.pixels:,}", *ious, state)
    console.print(table)
    console.print(found.describe_scores())
    console.print(Text(found.describe_verdict(), style="bold green" if found.is_learned else "bold red"))
    for line in found.list_advice():
        console.print(f"  {spell_options(line)}")
    console.print(LIMITS)
