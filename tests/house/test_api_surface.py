"""The public names and how they are called. A change here is a change for every user: it belongs in the changelog.

`python tests/house/test_api_surface.py` writes the names down anew.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import atrous

SURFACE = Path(__file__).with_name("api_surface.json")


def describe_surface() -> dict[str, list[str]]:
    """Return each public name with its parameters, or a class's public attributes."""
    surface = {}
    for name in sorted(atrous.__all__):
        value = getattr(atrous, name)
        if inspect.isclass(value):
            annotated = {field for kind in value.__mro__[:-1] for field in getattr(kind, "__annotations__", {})}
            own = annotated | {attribute for attribute in vars(value) if not attribute.startswith("_")}
            surface[name] = sorted(attribute for attribute in own if is_public(attribute))
        else:
            surface[name] = [str(parameter).split(":")[0] for parameter in inspect.signature(value).parameters.values()]
    return surface


def is_public(attribute: str) -> bool:
    """Whether an attribute is the project's own: neither private nor pydantic's machinery."""
    return not attribute.startswith(("_", "model_config", "model_fields", "model_computed"))


def test_the_public_names_are_those_written_down():
    assert describe_surface() == json.loads(SURFACE.read_text(encoding="utf-8"))


def test_no_public_name_is_a_folder_of_the_package():
    folders = {path.name for path in Path(atrous.__file__).parent.iterdir() if path.is_dir()}
    assert folders & set(atrous.__all__) == set()


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(atrous, "no_such_name")
    assert set(atrous.__all__) <= set(dir(atrous))


if __name__ == "__main__":
    SURFACE.write_text(json.dumps(describe_surface(), indent=2) + "\n", encoding="utf-8")
