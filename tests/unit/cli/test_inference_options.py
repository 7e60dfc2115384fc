from __future__ import annotations

import inspect

import pytest

from atrous.cli.inference_options import read_inference_options
from atrous.cli.main import COMMANDS, main
from atrous.core.errors import ConfigError


@pytest.mark.parametrize("name", ["eval", "predict"])
def test_a_command_takes_every_shared_option_where_it_asks_for_them(name, capsys):
    names = list(inspect.signature(COMMANDS.load(name)).parameters)
    shared = list(inspect.signature(read_inference_options).parameters)
    assert names[names.index(shared[0]) :][: len(shared)] == shared
    assert "inference" not in names
    main([name, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "An option of DenseCRF, such as bilateral_weight=6; implies --crf." in text


def test_an_option_of_densecrf_switches_it_on():
    assert read_inference_options(crf=True)["crf"] is True
    assert read_inference_options(crf_set=["bilateral_weight=6"])["crf"] == {"bilateral_weight": 6.0}


def test_only_what_was_given_is_passed_on_and_it_is_checked_together():
    assert read_inference_options() == {"trust": False}
    given = {"scales": "0.5,1", "flip": False, "window": "65", "crf": False, "backend": "openvino"}
    assert read_inference_options(**given) == {
        "scales": (0.5, 1.0),
        "flip": False,
        "window": 65,
        "crf": False,
        "backend": "openvino",
        "trust": False,
    }
    assert read_inference_options(window="none")["window"] == "none"
    with pytest.raises(ConfigError) as caught:
        read_inference_options(window="wide", scales="0,-1")
    assert "`window` is 'wide'. Allowed: a whole number or 'none'." in caught.value.message
    assert "`scales` is [0.0, -1.0]. Allowed: greater than 0." in caught.value.message
