from __future__ import annotations

import inspect
import re
import shlex

import pytest

from atrous.cli.main import COMMANDS, build_app, main


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help_with_an_example_of_itself(name, capsys):
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert re.search(rf"^  Example: atrous {name}\b", text, flags=re.MULTILINE)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_option_of_every_command_is_explained(name, capsys):
    main([name, "--help"])
    options = re.split(r"^  (?=-)", capsys.readouterr().out, flags=re.MULTILINE)[1:]
    assert [option for option in options if not re.search(r"\.\s*(\[[^]]*\]\s*)?$", option)] == []


@pytest.mark.parametrize("name", list(COMMANDS))
def test_the_options_in_an_example_exist(name, capsys):
    main([name, "--help"])
    text = capsys.readouterr().out
    for example in re.findall(r"Example: atrous (.*(?:\n    ?\S.*)*)", text):
        for word in shlex.split(example):
            assert not word.startswith("--") or f"  {word} " in text


def test_the_list_of_commands_cuts_no_explanation(capsys):
    main(["--help"])
    listed = capsys.readouterr().out.partition("Commands:")[2]
    assert "..." not in listed
    assert [line.split()[0] for line in listed.strip().splitlines()] == list(COMMANDS)


def test_each_command_is_one_file_of_its_name():
    build_app()
    for name, place in COMMANDS.items():
        assert place == f"atrous.cli.{name}:run"
        assert inspect.getmodule(COMMANDS.load(name)).__name__ == f"atrous.cli.{name}"
