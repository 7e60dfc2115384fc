from __future__ import annotations

import pytest

from atrous.core.errors import ConfigError, MachineError
from atrous.core.install import describe_install
from atrous.core.registry import Registry, describe_choices, nearest_name

TABLE = Registry(
    "codec",
    (
        ("json", "json:dumps"),
        ("missing", "package_that_nobody_has:part"),
        ("missing_extra", "package_that_nobody_has:part"),
    ),
    extras={"missing_extra": "fast"},
)


def test_a_part_is_imported_when_asked_for():
    import json

    assert TABLE.load("json") is json.dumps
    assert list(TABLE) == ["json", "missing", "missing_extra"]


def test_an_unknown_name_gets_the_nearest_one_first():
    with pytest.raises(ConfigError) as caught:
        TABLE.load("jsn")
    assert caught.value.message == "unknown codec 'jsn'"
    assert caught.value.hint.startswith("Did you mean 'json'? Allowed: json,")


@pytest.mark.parametrize(("name", "extra"), [("missing", None), ("missing_extra", "fast")])
def test_a_missing_package_names_what_to_install(name, extra):
    with pytest.raises(MachineError) as caught:
        TABLE.load(name)
    assert caught.value.hint == describe_install("package_that_nobody_has", extra)


def test_a_duplicate_name_is_refused():
    with pytest.raises(ValueError, match="codec table: a occurs twice"):
        Registry("codec", (("a", "json:dumps"), ("a", "json:loads")))


def test_parts_from_outside_are_there_for_as_long_as_the_block_runs():
    with TABLE.including(("pretty", "pprint:pformat"), ("shown", "builtins:repr")):
        assert list(TABLE)[-2:] == ["pretty", "shown"]
        assert TABLE.load("shown") is repr
    assert list(TABLE) == ["json", "missing", "missing_extra"]
    with pytest.raises(ValueError, match="codec table: json occurs twice"), TABLE.including(("json", "json:loads")):
        pass
    with pytest.raises(KeyError), TABLE.including(("pretty", "pprint:pformat")):
        raise KeyError
    assert "pretty" not in TABLE


def test_a_fault_inside_the_package_itself_is_not_dressed_up():
    with pytest.raises(ModuleNotFoundError):
        Registry("codec", (("a", "atrous.no_such_module:part"),)).load("a")


def test_nearest_name_gives_nothing_for_a_stranger():
    assert nearest_name("zzzz", ["alpha", "beta"]) == ""
    assert describe_choices("zzzz", []) == "Allowed: none."
