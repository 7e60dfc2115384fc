"""`atrous config`: the settings of a run with their sources, and their schema."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from atrous.cli.inference_options import JsonOption


class Action(StrEnum):
    """Whether to print settings or their schema."""

    SHOW = "show"
    SCHEMA = "schema"


def run(
    action: Annotated[Action, typer.Argument(help="show: print the settings; schema: print their JSON schema.")],
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help="Data whose atrous.yaml is read too, or a run.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="A YAML file, or the name of a built-in recipe.")
    ] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting, such as training.lr=0.01.")
    ] = None,
    why: Annotated[bool, typer.Option("--why", help="Print the source of each value.")] = False,
    json: JsonOption = False,
) -> int:
    """Print the settings of a training or of a run, or their schema.

    Example: atrous config show --recipe demo --set training.lr=0.01 --why
    """
    from atrous.cli.console import print_json, spell_options
    from atrous.config.load import dump_config, load_config
    from atrous.config.schema import Config
    from atrous.core.data_source import require_source
    from atrous.core.run_folder import RunFolder
    from atrous.display.console import build_console

    if action is Action.SCHEMA:
        print_json(Config.model_json_schema())
        return 0
    if data is not None and recipe is None and RunFolder(Path(data)).is_run:
        recipe, data = str(RunFolder(Path(data)).config), None
    loaded = load_config(recipe=recipe, options={"data.source": data}, assignments=assignments or [])
    if data is not None:
        require_source(loaded.config.data.source, loaded.config.data.root)
    values = loaded.config.model_dump(mode="json")
    if json:
        sources = {key: spell_options(source) for key, source in loaded.sources.items()}
        print_json({"config": values, "sources": sources} if why else values)
    elif why:
        build_console().print("\n".join(_explain(loaded.sources, values)))
    else:
        build_console().print(dump_config(loaded.config).rstrip())
    return 0


def _explain(sources: dict[str, str], values: Any) -> list[str]:
    """Return one line per setting: key, value and source."""
    from json import dumps  # `json` is an option's name in this file

    from atrous.cli.console import spell_options

    rows = []
    for key, source in sources.items():
        value = values
        for part in key.split("."):
            value = value[part]
        rows.append((f"{key}: {dumps(value)}", spell_options(source)))
    width = max(len(left) for left, _ in rows)
    return [f"{left:<{width}}  # {source}" for left, source in rows]
