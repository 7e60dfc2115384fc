from __future__ import annotations

import inspect

import pytest

from atrous.cli.inference_options import read_inference_options
from atrous.cli.main import COMMANDS, main


@pytest.mark.parametrize("name", ["eval", "predict"])
def test_a_command_takes_every_shared_option_where_it_asks_for_them(name, capsys):
    names = list(inspect.signature(COMMANDS.load(name)).parameters)
    shared = list(inspect.signature(read_inference_options).parameters)
    assert names[names.index(shared[0]) :][: len(shared)] == shared
    assert "inference" not in names
    main([name, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "An option of DenseCRF, such as bilateral_weight=6; switches it on like --crf." in text


def test_an_option_of_densecrf_switches_it_on():
    assert read_inference_options()["crf"] is False
    assert read_inference_options(crf=True)["crf"] is True
    assert read_inference_options(crf_set=["bilateral_weight=6"])["crf"] == {"bilateral_weight": 6.0}
