"""`atrous datasets`: lists the registered data sets, or shows one of them."""

from __future__ import annotations

from typing import Annotated

import typer

from atrous.cli.inference_options import DataRootOption, JsonOption
from atrous.cli.models import Action
from atrous.core.errors import UsageError
from atrous.core.records import list_notes
from atrous.core.words import describe_count


def run(
    action: Annotated[Action, typer.Argument(help="list all data sets, or show one.")] = Action.LIST,
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="A name, a name with its folder (`voc=PATH`), a folder or an atrous.yaml."),
    ] = None,
    data_root: DataRootOption = None,
    json: JsonOption = False,
) -> int:
    """List registered data sets, or show one.

    Example: atrous datasets show shapes
    """
    if action is Action.LIST:
        return _list(as_json=json)
    if name is None:
        raise UsageError("no data set named", "atrous datasets show shapes")
    return _show(name, data_root=data_root, as_json=json)


def _list(*, as_json: bool) -> int:
    from atrous.cli.console import print_json
    from atrous.data import DATASETS
    from atrous.display.console import build_console

    if as_json:
        print_json({"datasets": list(DATASETS)})
    else:
        build_console().print("\n".join(DATASETS))
    return 0


def _show(name: str, *, data_root: str | None, as_json: bool) -> int:
    from rich.text import Text

    from atrous.cli.console import open_display, print_json, show_loading
    from atrous.config.load import load_config
    from atrous.core.data_source import TERMS, require_source, resolve_source
    from atrous.display.console import build_console
    from atrous.display.tables import build_table

    config = load_config(options={"data.source": name, "data.root": data_root}).config.data
    require_source(config.source, config.root)
    with open_display(quiet=False) as display, show_loading(display):
        from atrous.data.build import build_splits

        splits = build_splits(config)
    space, terms = splits.train.label_space, TERMS.get(resolve_source(name, data_root).dataset)
    if as_json:
        counts = {"train": len(splits.train), "val": len(splits.val)}
        print_json(
            {
                **{"name": name, "layout": splits.layout, "terms": terms, **counts, **space.to_json()},
                "notes": list_notes(splits.notes),
            }
        )
        return 0
    console = build_console()
    table = build_table("class", "id", "colour", title=f"{name} ({splits.layout})")
    for class_name, number, (red, green, blue) in zip(space.names, space.ids, space.colours, strict=True):
        swatch = Text("  ", style=f"on rgb({red},{green},{blue})") + Text(f" {red} {green} {blue}")
        table.add_row(class_name, str(number), swatch)
    console.print(table)
    for note in splits.notes:
        console.print(note)
    console.print(f"{describe_count(len(splits.train), 'image')} to train on, {len(splits.val):,} to score")
    if terms is not None:
        console.print(f"terms of use: {terms}")
    return 0
