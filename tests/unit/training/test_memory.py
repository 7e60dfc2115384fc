from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from atrous.config.load import load_config
from atrous.core.errors import MachineError
from atrous.networks.build import build_network_from
from atrous.networks.layers.lean import set_lean
from atrous.training import memory
from atrous.training.fabric import build_fabric
from atrous.training.memory import PROBE_SIDES_PX, measure_kept_bytes, require_memory
from atrous.training.norm import start_training
from atrous.training.world import World


def prepare(name="deeplabv3-lite0", **options):
    given = {"model.name": name, "model.weights": "none", "output.device": "cpu", "training.precision": "fp32"}
    config = load_config(options=given | options).config
    network = build_network_from({"name": name}, 3)
    set_lean(network, config.training.lean == "auto")
    start_training(network, frozen_norms=False)
    return network, config.training, build_fabric(config)


@pytest.mark.parametrize("name", ["deeplabv3-tiny", "deeplabv3-lite0", "pspnet-tiny"])
@pytest.mark.parametrize("options", [{}, {"training.lean": "off"}, {"training.precision": "bf16"}], ids=str)
def test_bytes_at_another_crop_are_what_a_pass_over_it_keeps(name, options):
    network, training, fabric = prepare(name, **options)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    probes = [measure_kept_bytes(network, side, training, fabric) for side in PROBE_SIDES_PX]
    assert probes[0] > 0
    assert np.polyval(np.polyfit(PROBE_SIDES_PX, probes, 2), 257) == pytest.approx(
        measure_kept_bytes(network, 257, training, fabric), rel=0.03
    )
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"training.crop": 100_001}, "crop="),
        ({"training.crop": 353, "training.batch": 1_000_000}, "batch="),
        ({"training.crop": 4001, "training.batch": 500}, "batch="),
    ],
)
@pytest.mark.parametrize("size", [1, 2])
def test_what_cannot_fit_is_refused_and_what_is_named_instead_is_taken(options, advice, size, monkeypatch):
    world = replace(World.alone(), size=size, local_size=size)
    monkeypatch.setattr(memory, "compute_device_bytes", lambda device: 64 * 2**30)
    network, training, fabric = prepare(**options)
    with pytest.raises(
        MachineError, match=r"takes more than [\d,]+ GiB of memory in a step( of 2 processes)?, and cpu has 64 GiB"
    ) as caught:
        require_memory(network, training, fabric, world)
    assert advice in caught.value.hint
    number = int(caught.value.hint.split(advice)[1].split("`")[0])
    assert number > 1
    key = advice.removesuffix("=")
    smaller = {"batch": size} | {key: number}
    require_memory(network, training.model_copy(update=smaller), fabric, world)
    with pytest.raises(MachineError):
        require_memory(network, training.model_copy(update=smaller | {key: number * 2}), fabric, world)


def test_recomputation_and_bf16_halve_what_is_kept():
    plain, lean, small = (
        measure_kept_bytes(network, 129, training, fabric)
        for network, training, fabric in (
            prepare(**{"training.lean": "off"}),
            prepare(),
            prepare(**{"training.precision": "bf16"}),
        )
    )
    assert 0.3 * plain < lean < 0.7 * plain
    assert 0.3 * lean < small < 0.8 * lean


def test_ordinary_settings_fit():
    require_memory(*prepare(), World.alone())


@pytest.mark.parametrize(
    ("size", "local_size", "needed"),
    [(1, 1, 100 + 4 * 7), (4, 1, 100 + 7), (4, 4, 4 * 100 + 4 * 7), (4, 2, 2 * 100 + 2 * 7)],
)
def test_processes_on_one_cpu_need_its_memory_together(size, local_size, needed, monkeypatch):
    network, training, fabric = prepare(**{"training.batch": 4})
    monkeypatch.setattr(memory, "_measure_step", lambda *given: (100, lambda crop: 7.0))
    world = replace(World.alone(), size=size, local_size=local_size)
    monkeypatch.setattr(memory, "compute_device_bytes", lambda device: needed)
    require_memory(network, training, fabric, world)
    monkeypatch.setattr(memory, "compute_device_bytes", lambda device: needed - 1)
    with pytest.raises(MachineError):
        require_memory(network, training, fabric, world)
