"""`atrous convert`: annotations of labelling tools as a folder of images and masks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atrous.cli.inference_options import JsonOption, QuietOption
from atrous.core.errors import SKIPPED_EXIT_CODE, UsageError
from atrous.data import CONVERTERS

PROBLEMS_SHOWN = 20


def run(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="What a labelling tool has exported, or an archive of it.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The folder to write; it must be empty or not exist.")],
    from_format: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FORMAT",
            help=f"{', '.join(CONVERTERS)}. Default: guessed from the files.",
        ),
    ] = None,
    to_format: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="FORMAT", help="Write the masks of SOURCE as annotations: labelme, coco, cvat or geojson."
        ),
    ] = None,
    images: Annotated[Path | None, typer.Option("--images", help="Folder of images that are not in SOURCE.")] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes",
            help="Names of classes, separated by commas, in the order of their ids from 1; or ID:NAME. "
            "Default: all that SOURCE holds.",
        ),
    ] = None,
    line_width: Annotated[int, typer.Option("--line-width", min=1, max=1000, help="Width of lines in pixels.")] = 10,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read everything and write nothing.")] = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> int:
    """Convert annotations to masks, or masks to annotations.

    Example: atrous convert annotations/ --from labelme --out photos/
    """
    from atrous.core.paths import require_existing

    if to_format is None:
        require_existing(source)
    from atrous.cli.console import open_display, print_json
    from atrous.data.convert.conversion import RECORD_NAME
    from atrous.display.console import build_console
    from atrous.runs.convert import convert

    with open_display(quiet=quiet) as display:
        result = convert(
            source,
            out,
            from_format=from_format,
            to_format=to_format,
            images=images,
            classes=None if classes is None else parse_classes(classes),
            line_width=line_width,
            dry_run=dry_run,
            progress=display.progress,
            on_message=display.on_message,
        )
    if json:
        print_json(result.to_json())
    else:
        messages = build_console(stderr=True)
        for problem in result.problems[:PROBLEMS_SHOWN]:
            messages.print(f"{problem}", style="yellow")
        if len(result.problems) > PROBLEMS_SHOWN:
            rest = f"{len(result.problems) - PROBLEMS_SHOWN:,} more problems"
            messages.print(f"{rest}: see {'--json' if dry_run else out / RECORD_NAME}", style="yellow")
        space = result.label_space
        listed = ", ".join(f"{number} {name}" for number, name in zip(space.ids, space.names, strict=True))
        build_console().print(f"classes: {listed}\n{result.describe()}\n{'nothing written' if dry_run else out}")
    return SKIPPED_EXIT_CODE if result.problems else 0


def parse_classes(text: str) -> dict[int, str] | list[str]:
    """Read names of classes, with or without their ids.

    Raises:
        UsageError: Some have an id and others have none.
    """
    pairs = [word.strip().partition(":") for word in text.split(",")]
    with_id = [bool(colon) and number.strip().isdecimal() for number, colon, _ in pairs]
    if all(with_id):
        return {int(number): name.strip() for number, _, name in pairs}
    if any(with_id):
        raise UsageError(f"--classes got {text!r}", "Give every class an id, such as 1:crack,2:rust, or none of them.")
    return [word.strip() for word in text.split(",")]
