from __future__ import annotations

import numpy as np
import pytest
import torch

from atrous.config.schema import TrainingConfig
from atrous.core.errors import MachineError
from atrous.core.inputs import PHOTO, ImageForm
from atrous.core.records import Sample
from atrous.data.sampling import _collate
from atrous.training import workers
from atrous.training.workers import choose_workers, count_batch_bytes

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
MIB = 2**20


@pytest.fixture
def said(monkeypatch):
    monkeypatch.setattr(workers, "find_shared_bytes", lambda: 64 * MIB)
    monkeypatch.setattr(workers, "count_usable_cores", lambda: 16)
    return []


def test_processes_beside_the_training_only_where_it_leaves_cores_free(said):
    assert choose_workers(None, CPU, MIB, said.append) == 0
    assert choose_workers(3, CPU, MIB, said.append) == 3
    assert choose_workers(0, CUDA, MIB, said.append) == 0
    assert choose_workers(None, CUDA, MIB, said.append) == 8
    assert said == []


def test_more_processes_than_shared_memory_holds_are_refused_with_the_number_that_fits(said):
    with pytest.raises(MachineError, match=r"64 MiB of shared memory are free.*4 processes.*need 90") as caught:
        choose_workers(4, CPU, 10 * MIB, said.append)
    assert "`workers=2`" in caught.value.hint  # 5 batches of 10 MiB
    assert choose_workers(2, CPU, 10 * MIB, said.append) == 2
    with pytest.raises(MachineError) as caught:
        choose_workers(1, CPU, 40 * MIB, said.append)
    assert "`workers=0`" in caught.value.hint


def test_fewer_processes_are_chosen_where_shared_memory_is_short(said):
    assert choose_workers(None, CUDA, 10 * MIB, said.append) == 2
    assert [note.code for note in said] == ["little-shared-memory"]
    assert choose_workers(None, CUDA, 65 * MIB, said.append) == 0


def test_a_system_without_that_limit_refuses_nothing(said, monkeypatch):
    monkeypatch.setattr(workers, "find_shared_bytes", lambda: None)
    assert choose_workers(8, CPU, 10**12, said.append) == 8


@pytest.mark.parametrize(
    "form", [PHOTO, ImageForm((0, 1, 2, 3, 4), "uint16", (0.0, 1000.0)), ImageForm((0,), "uint8", (0.0, 255.0))]
)
def test_a_batch_takes_what_the_loader_shares(form):
    image = np.zeros((33, 33, form.channels), dtype=form.dtype)
    labels = np.zeros((33, 33), dtype=np.uint16)
    batch = _collate([(place, Sample(str(place), image, labels)) for place in range(4)])
    shared = batch.images.nbytes + batch.labels.nbytes
    assert count_batch_bytes(TrainingConfig(batch=4, crop=33), form) == shared
