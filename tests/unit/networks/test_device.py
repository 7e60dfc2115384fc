from __future__ import annotations

import pytest
import torch

from atrous.core.errors import ConfigError, MachineError
from atrous.networks.device import find_device


@pytest.mark.parametrize(
    "name",
    ["tpu9", "gpu", "0", "", "cpu:3", "cpu:0", "mps:1", "cuda:", "cuda:-1", "cuda:x", "CUDA", "xpu", "meta", "a:b:c"],
)
def test_an_unknown_device_is_refused_with_the_names_there_are(name):
    with pytest.raises(ConfigError, match=f"unknown device '{name}'") as caught:
        find_device(name)
    assert "Allowed: auto, cpu, cuda, cuda:1, mps." in caught.value.hint


@pytest.mark.skipif(torch.cuda.is_available() or torch.backends.mps.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:7", "cuda:99999", "mps"])
def test_a_device_that_is_not_here_is_one_line(name):
    with pytest.raises(MachineError, match=f"device '{name}' cannot be used here: ") as caught:
        find_device(name)
    assert len(caught.value.message) < 280
    assert "\n" not in caught.value.message


def test_a_number_beyond_the_devices_is_said_with_their_count(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(MachineError, match="this machine has 2 CUDA devices, counted from 0"):
        find_device("cuda:2")


def test_a_device_that_a_backend_does_not_run_on_is_refused():
    with pytest.raises(MachineError, match="the backend does not run on 'cpu' here"):
        find_device("cpu", kinds=("cuda",))
