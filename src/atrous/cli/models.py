"""`atrous models`: the available networks, the structure of one of them, and what is known of a trained model."""

from __future__ import annotations

import itertools
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atrous.cli.inference_options import JsonOption
from atrous.core.errors import UsageError
from atrous.core.shipped import SHIPPED, find_shipped, is_shipped

if TYPE_CHECKING:
    from atrous.networks.model_card import ModelCard


class Action(StrEnum):
    """Whether to list all models or show one."""

    LIST = "list"
    SHOW = "show"


def run(
    action: Annotated[Action, typer.Argument(help="list all parts, or show one model.")] = Action.LIST,
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Model to show, such as animals, deeplabv3-resnet50, a run or a file."),
    ] = None,
    output_stride: Annotated[
        int | None, typer.Option("--output-stride", help="4, 8, 16 or 32; up to 256 for a cascade. Default: 16.")
    ] = None,
    rates: Annotated[bool, typer.Option("--rates", help="Print the stride and rate of every convolution.")] = False,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting, such as model.extra_blocks=1.")
    ] = None,
    json: JsonOption = False,
) -> int:
    """List networks and trained models, or show one.

    Example: atrous models show animals

    Example: atrous models show deeplabv3-resnet50 --output-stride 8 --rates

    Example: atrous models show runs/demo

    Example: atrous models show deeplabv3-cascade-resnet50 --rates --set "model.multi_grid=[1, 2, 1]"
    """
    if action is Action.LIST:
        return _list(as_json=json)
    if name is None:
        raise UsageError(
            "`atrous models show` needs a model name", "For example: atrous models show deeplabv3-resnet50"
        )
    if is_shipped(name) or Path(name).exists():
        return _show_file(name, as_json=json)
    return _show(name, output_stride=output_stride, assignments=assignments or [], rates=rates, as_json=json)


def _list(*, as_json: bool) -> int:
    from atrous.cli.console import print_json
    from atrous.display.console import build_console
    from atrous.display.tables import build_table
    from atrous.networks import BACKBONES, FAMILIES
    from atrous.networks.model_card import read_card
    from atrous.networks.names import VERIFIED
    from atrous.networks.published import TORCHVISION_MODELS

    cards = {name: read_card(find_shipped(name)) for name in SHIPPED}
    if as_json:
        print_json(
            {
                "shipped": [_summarise(name, card) for name, card in cards.items()],
                "families": list(FAMILIES),
                "backbones": list(BACKBONES),
                "timm": dict(VERIFIED),
                "published": list(TORCHVISION_MODELS),
            }
        )
        return 0
    table = build_table("part", "names")
    table.columns[1].justify = "left"
    table.add_row("family", " ".join(FAMILIES))
    table.add_row("backbone", " ".join(BACKBONES))
    table.add_row("verified", " ".join(f"timm/{name}" for name in VERIFIED))
    table.add_row("published", " ".join(TORCHVISION_MODELS))
    console = build_console()
    console.print(table)
    for name, card in cards.items():
        console.print(f"{name}: a trained model that is part of atrous")
        for line in _describe_shipped(name, card):
            console.print(f"  {line}")
    console.print("Published models are downloaded once. Example: atrous predict IMAGE --model torchvision/<name>")
    console.print(
        "A model name is <family>-<backbone>, such as deeplabv3-lite0. Other timm/<name> run without being verified."
    )
    return 0


def _show(name: str, *, output_stride: int | None, assignments: list[str], rates: bool, as_json: bool) -> int:
    from atrous.cli.console import open_display, print_json, show_loading
    from atrous.config.load import load_config
    from atrous.display.console import build_console
    from atrous.display.tables import build_table
    from atrous.networks.names import split_name

    options = {"model.name": name, "model.output_stride": output_stride}
    model = load_config(options=options, assignments=assignments).config.model  # its errors name the allowed values
    split_name(model.name)
    with open_display(quiet=False) as display, show_loading(display):
        from atrous.networks.build import describe_network

        found = describe_network(**model.model_dump(exclude={"weights"}))
    if as_json:
        print_json(found)
        return 0
    console = build_console()
    sites = found.pop("rates")
    for key, value in found.items():
        console.print(f"{key.replace('_', ' ')}: {_describe(value)}")
    if rates:
        table = build_table("convolution", "kernel", "stride", "rate")
        for row in sites:
            table.add_row(row["name"], *(str(row[key]) for key in ("kernel", "stride", "dilation")))
        console.print(table)
    return 0


def _summarise(name: str, card: ModelCard) -> dict[str, Any]:
    """Return what is known of a shipped model, as JSON."""
    keys = ("data", "num_images", "data_terms", "score", "protocol", "scored_data", "num_scored")
    whole = card.to_json()
    return {
        "name": name,
        "network": card.model["name"],
        "bytes": find_shipped(name).stat().st_size,
        "classes": list(card.label_space.names),
        **{key: whole[key] for key in keys},
        "latency": asdict(SHIPPED[name].latency),
    }


def _describe_shipped(name: str, card: ModelCard) -> list[str]:
    """Return a line for each thing that the list tells of a shipped model."""
    return [
        f"network: {card.model['name']}, {find_shipped(name).stat().st_size / 1e6:,.1f} MB",
        f"classes: {', '.join(card.label_space.names)}",
        *_describe_training(card),
        f"latency: {SHIPPED[name].latency.describe()}",
    ]


def _show_file(name: str, *, as_json: bool) -> int:
    """Print what a trained model's file tells of it; the network is not opened."""
    from atrous.cli.console import open_display, print_json, show_loading
    from atrous.display.console import build_console
    from atrous.display.tables import build_table
    from atrous.networks.model_source import find_model

    with open_display(quiet=False) as display, show_loading(display):
        from atrous.inference.exported import is_exported, read_file
        from atrous.networks.model_card import read_card

        file = find_model(name)
        card = read_file(file).card if is_exported(file) else read_card(file)
    size = file.stat().st_size
    if as_json:
        latency = {"latency": asdict(SHIPPED[name].latency)} if is_shipped(name) else {}
        print_json({"file": str(file), "bytes": size, **card.to_json(), **latency})
        return 0
    console = build_console()
    for line in _describe_card(card):
        console.print(line)
    if is_shipped(name):
        console.print(f"latency: {SHIPPED[name].latency.describe()}")
    table = build_table("class", "id", "IoU")
    for name, number, iou in itertools.zip_longest(card.label_space.names, card.label_space.ids, card.class_iou):
        table.add_row(name, str(number), "" if iou is None else f"{iou:.4f}")
    console.print(table)
    console.print(f"{file}, {size / 1e6:,.1f} MB")
    return 0


def _describe_card(card: ModelCard) -> list[str]:
    """Return a line for each thing that a file tells of its model."""
    settings = {name: value for name, value in card.model.items() if value not in (None, {}, False)}
    lines = [
        f"network: {_describe(settings).removeprefix('name ').replace('_', ' ')}",
        f"images: {card.form.describe()}",
        *_describe_training(card),
    ]
    if chosen := card.chosen.describe():
        lines.append(f"confidence: {chosen}")
    if card.recipe_sha256:
        lines.append(f"recipe: SHA-256 {card.recipe_sha256}")
    return [*lines, f"written with: {_describe(card.versions)}"]


def _describe_training(card: ModelCard) -> list[str]:
    """Return a line for each thing that a file tells of the data of its model and of the score on them."""
    from atrous.core.records import Protocol
    from atrous.core.words import describe_count

    def count(images: int | None) -> str:
        return "" if images is None else f", {describe_count(images, 'image')}"

    lines = []
    if card.data:
        lines.append(f"trained on: {card.data}{count(card.num_images)}")
    lines += [f"terms of use: {term}" for term in card.data_terms]
    if card.score is not None:
        bf16 = "" if card.score_bf16 is None else f"; {card.score_bf16:.4f} in bf16"
        data = f" on {card.scored_data}{count(card.num_scored)}" * bool(card.scored_data)
        lines.append(f"mIoU: {card.score:.4f}{data}{bf16}")
    if card.protocol:
        lines.append(f"protocol: {Protocol.from_json(card.protocol).describe()}")
    return lines


def _describe(value: Any) -> str:
    """Format a value: a list with commas, a mapping as "channels 64 stride 4"."""
    if isinstance(value, dict):
        return " ".join(f"{key} {_describe(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_describe, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
