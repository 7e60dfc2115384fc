"""`atrous check`: what is wrong with some data, and what to do about it."""

from __future__ import annotations

from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atrous.cli.inference_options import DataRootOption, JsonOption, QuietOption
from atrous.core.data_source import SETTINGS_NAME
from atrous.core.words import describe_count, escape_unprintable

if TYPE_CHECKING:
    from rich.console import Console

    from atrous.core.findings import CheckResult

_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def run(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="A name (`camvid`), a name with its path (`voc=PATH`), a folder or an atrous.yaml."
        ),
    ],
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting, such as data.split.val=test.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="HTML file that shows the result, with images.")] = Path(
        "check.html"
    ),
    write: Annotated[
        bool, typer.Option("--write", help="Write what was found as atrous.yaml; one that exists is compared.")
    ] = False,
    data_root: DataRootOption = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> int:
    """Find what is wrong with images and masks.

    The exit code is 0 without errors and warnings, 1 with warnings, 3 with errors.

    Example: atrous check photos/
    """
    from atrous.cli.console import open_display, print_json, spell_options
    from atrous.config.load import load_config
    from atrous.core.data_source import require_source
    from atrous.core.findings import SETTINGS_SHOWN
    from atrous.display.console import build_console

    loaded = load_config(options={"data.source": data, "data.root": data_root}, assignments=assignments or [])
    config = loaded.config.data
    has_own = require_source(config.source, config.root).settings is not None  # before anything heavy is imported
    found: list[CheckResult] = []
    try:
        with open_display(quiet=quiet) as display:
            from atrous.runs.check import check_data, describe_settings, write_settings

            shown: dict[str, Any] = {"progress": display.progress, "on_message": display.on_message}
            result = check_data(config, **shown, page=out, on_result=found.append)
            written = write_settings(config, result) if write else None
    finally:  # also where a file could not be written
        for each in found:
            if json:
                print_json(each.to_json())
            else:
                _print_result(build_console(), each)
    if not json:
        console = build_console()
        if written is not None:
            settings, difference = written
            console.print(difference or f"settings: {settings}")
        elif (number := sum(bool(finding.settings) for finding in result.findings)) and (has_own or number > 1):
            console.print(f"{SETTINGS_NAME} with all of these lines; --write writes it, or compares it with yours:")
            most = None if has_own else SETTINGS_SHOWN  # for --write replaces no file
            console.print(indent(spell_options(describe_settings(config, result, most).rstrip()), "  "))
        console.print(f"report: {out}")
    return result.exit_code


def _print_result(console: Console, result: CheckResult) -> None:
    from rich.text import Text

    from atrous.cli.console import spell_options
    from atrous.core.findings import SETTINGS_SHOWN, list_fixes
    from atrous.display.tables import build_table

    if result.ids:
        title = escape_unprintable(f"{result.data} ({result.layout})")
        table = build_table("class", "id", "pixels", "share", "images", "first mask", title=title)
        rows, rest = result.list_ids()
        for row in rows:
            share, first = f"{100 * row.share:.2f} %", escape_unprintable(row.first_file)
            table.add_row(row.name, str(row.id), f"{row.pixels:,}", share, f"{row.images:,}", first)
        if rest:
            pixels, share = sum(row.pixels for row in rest), f"{100 * sum(row.share for row in rest):.2f} %"
            table.add_row(f"{len(rest):,} more", "", f"{pixels:,}", share, "", "")
        console.print(table)
    for finding, fix in zip(result.findings, list_fixes(result.findings, SETTINGS_SHOWN), strict=True):
        console.print(Text(finding.severity, style=_STYLES[finding.severity]) + f" {finding.code}: {finding.message}")
        for key, title in (("text", ""), ("command", ""), ("yaml", f"in {SETTINGS_NAME}:\n")):
            if text := fix.get(key):
                console.print(
                    indent(title + (text.rstrip() if key == "command" else spell_options(text.rstrip())), "  ")
                )
    counts = [sum(finding.severity == severity for finding in result.findings) for severity in _STYLES]
    words = [describe_count(count, severity) for severity, count in zip(_STYLES, counts, strict=True)]
    images = f"{describe_count(result.num_images, 'image')}, {describe_count(result.num_pairs, 'pair')}"
    console.print(f"{images}: {', '.join(words)}", style="bold")
