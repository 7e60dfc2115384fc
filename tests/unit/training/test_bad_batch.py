from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import atrous
from atrous.core.errors import ModelFileError, TrainingDiverged
from atrous.training import loop
from atrous.training.bad_batch import replay_bad_batch
from atrous.training.checkpoint import load_checkpoint

OPTIONS = {
    **{"model": "fcn-tiny", "weights": "none", "iterations": 6, "crop": 65, "batch": 2, "validations": 1},
    **{"lr": 1e9, "precision": "fp32", "class_weights": "auto", "accumulate": 2},
    "set": {"data.options": {"num_train": 16, "num_val": 2, "size": 65}, "training.warmup_fraction": 0.0},
}


def test_the_step_that_diverged_is_kept_and_diverges_again(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(TrainingDiverged) as caught:
        atrous.train("shapes", out=folder, **OPTIONS)
    message = caught.value.message
    assert any(str(folder / "bad_batch") in note for note in caught.value.__notes__)
    record = json.loads((folder / "bad_batch" / "batch.json").read_text())
    assert record["error"] == message
    assert len(record["images"]) == 4
    assert all(image in message for image in record["images"])
    checkpoint = load_checkpoint(folder / "last.ckpt")  # the last good one
    assert checkpoint.step < record["step"]
    assert all(tensor.isfinite().all() for tensor in checkpoint.network.values())
    random = torch.random.get_rng_state()
    with pytest.raises(TrainingDiverged) as again:
        replay_bad_batch(folder)
    assert again.value.message == message
    assert torch.equal(torch.random.get_rng_state(), random)
    # With weights from before the divergence the same batch has a loss: it is not the images.
    tensors = folder / "bad_batch" / "batch.pt"
    torch.save(torch.load(tensors, weights_only=True) | {"network": checkpoint.network}, tensors)
    assert 0 < replay_bad_batch(folder) < 100


def test_the_images_of_all_processes_are_kept_and_diverge_again_in_one(two_processes):
    folder = Path(two_processes[0]["folder"]) / "diverged"
    record = json.loads((folder / "bad_batch" / "batch.json").read_text())
    reported = next(each["diverged"] for each in two_processes if each["diverged"]["name"] == "TrainingDiverged")
    assert reported["message"] == record["error"]
    assert any(str(folder / "bad_batch") in note for note in reported["notes"])
    batches = torch.load(folder / "bad_batch" / "batch.pt", weights_only=True)["batches"]
    first = 8 * (record["step"] - 1)
    assert [sorted(batch["places"]) for batch in batches] == [[first + n + m for n in range(4)] for m in (0, 4)]
    assert [len(batch["images"]) for batch in batches] == [4, 4]
    keys = {key for batch in batches for key in batch["keys"]}
    assert set(record["images"]) == keys
    assert all(key in record["error"] for key in keys)
    with pytest.raises(TrainingDiverged) as again:
        replay_bad_batch(folder)
    assert again.value.message.partition("(")[2] == record["error"].partition("(")[2]  # the same images


def test_a_batch_that_cannot_be_kept_hides_nothing(tmp_path, monkeypatch):
    def fail(*given):
        raise ZeroDivisionError("no place")

    monkeypatch.setattr(loop, "save_bad_batch", fail)
    with pytest.raises(TrainingDiverged) as caught:
        atrous.train("shapes", out=tmp_path / "run", **OPTIONS)
    assert "The batch could not be kept: no place" in caught.value.__notes__


def test_a_run_without_a_bad_batch_is_said(trained_run):
    with pytest.raises(ModelFileError, match="has no bad batch"):
        replay_bad_batch(trained_run)
