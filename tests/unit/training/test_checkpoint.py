from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
import shlex
import shutil
from pathlib import Path

import pytest
import torch

from atrous.cli.main import main
from atrous.core.errors import ModelFileError
from atrous.training.checkpoint import (
    FORMAT_VERSION,
    Checkpoint,
    TrainState,
    load_checkpoint,
    load_record,
    save_checkpoint,
)


def build():
    weight = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last).requires_grad_()
    optimizer = torch.optim.SGD([{"params": [weight], "initial_lr": 0.1}], lr=0.1, momentum=0.9)
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    tensors = {"weight": weight.detach(), "count": torch.tensor(3), "half": torch.ones(2, dtype=torch.bfloat16)}
    record = {"plan": {"total_steps": 8}, "rows": [{"step": 4, "miou": 0.1 + 0.2, "lr": 1e-17, "none": None}]}
    return Checkpoint(4, tensors, {name: t + 1 for name, t in tensors.items()}, optimizer.state_dict(), record)


def test_what_is_saved_comes_back_bit_by_bit(tmp_path):
    torch.manual_seed(0)
    saved = build()
    save_checkpoint(tmp_path / "last.ckpt", saved)
    loaded = load_checkpoint(tmp_path / "last.ckpt")
    assert (loaded.step, loaded.record) == (saved.step, saved.record)
    for own, other in ((loaded.network, saved.network), (loaded.averaged, saved.averaged)):
        assert own.keys() == other.keys()
        for name, tensor in own.items():
            assert tensor.dtype == other[name].dtype
            assert tensor.stride() == other[name].stride()
            assert torch.equal(tensor, other[name])
    assert loaded.optimizer["param_groups"] == saved.optimizer["param_groups"]
    buffers = [state["state"][0]["momentum_buffer"] for state in (loaded.optimizer, saved.optimizer)]
    assert torch.equal(*buffers)


def test_the_classes_that_were_seen_are_counted_on_after_a_resume():
    state = TrainState(step=3, losses=(0.5,), seen=(10, 0, 7))
    value = json.loads(json.dumps(state.to_json()))
    assert TrainState.from_json(value) == state
    del value["seen"]  # as earlier versions wrote it
    assert TrainState.from_json(value).seen == ()


def test_a_file_that_cannot_be_written_leaves_the_former_one(tmp_path):
    path = tmp_path / "last.ckpt"
    save_checkpoint(path, build())
    before = path.read_bytes()
    broken = Checkpoint(5, {}, {}, {"closure": lambda: None}, {})  # what cannot be stored
    with pytest.raises((pickle.PicklingError, AttributeError)):
        save_checkpoint(path, broken)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.ckpt"]


def test_no_such_file_is_said(tmp_path):
    with pytest.raises(ModelFileError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "last.ckpt")


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_named(tmp_path, share):
    path = tmp_path / "last.ckpt"
    save_checkpoint(path, build())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ModelFileError, match=r"last\.ckpt: is damaged") as caught:
        load_checkpoint(path)
    require_own_words(caught.value)


def test_a_flipped_bit_is_noticed_wherever_it_is(tmp_path):
    path = tmp_path / "last.ckpt"
    save_checkpoint(path, build())
    whole = path.read_bytes()
    expected = load_checkpoint(path)
    for place in range(0, len(whole), 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        found = None
        with contextlib.suppress(ModelFileError):
            found = load_checkpoint(path)
        if found is not None:  # the bit is between the parts of the file
            assert all(torch.equal(found.network[name], expected.network[name]) for name in expected.network)
            assert found.record == expected.record


@pytest.mark.parametrize(
    "content",
    [
        torch.zeros(3),
        [1, 2],
        "text",
        7,
        None,
        {"step": 3},
        {"format_version": "one"},
        {"format_version": FORMAT_VERSION, "step": 1, "network": {}, "averaged": {}, "optimizer": {}, "record": "{"},
    ],
    ids=lambda content: type(content).__name__,
)
def test_another_kind_of_file_is_named(tmp_path, content):
    path = tmp_path / "last.ckpt"
    torch.save(content, path)
    with pytest.raises(ModelFileError, match=r"last\.ckpt: .*not a checkpoint of atrous") as caught:
        load_checkpoint(path)
    require_own_words(caught.value)


def require_own_words(error: ModelFileError) -> None:
    assert not re.search("weights_only|torch|PyTorch|zip|pickle", str(error).partition("last.ckpt")[2])
    assert len(str(error).splitlines()) == 2


def test_a_later_format_asks_for_an_update(tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save({"format_version": FORMAT_VERSION + 1}, path)
    with pytest.raises(ModelFileError) as caught:
        load_checkpoint(path)
    assert caught.value.hint == "Update atrous."


def test_an_earlier_format_names_the_way_on(tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save({"format_version": 1, "step": 1}, path)
    with pytest.raises(ModelFileError) as caught:
        load_checkpoint(path)
    assert caught.value.message == f"{path}: has format 1 of an earlier atrous"
    assert caught.value.hint.endswith(f"atrous train --recipe {tmp_path / 'config.yaml'}")


def test_a_damaged_checkpoint_names_the_best_weights(tmp_path):
    path, weights = tmp_path / "last.ckpt", tmp_path / "model.safetensors"
    path.write_bytes(b"damaged")
    weights.touch()
    for load in (load_checkpoint, load_record):
        with pytest.raises(ModelFileError) as caught:
            load(path)
        assert "weights_only" not in str(caught.value)
        assert caught.value.hint.endswith(f"atrous train --recipe {tmp_path / 'config.yaml'} --weights {weights}")
        assert len(str(caught.value).splitlines()) == 2


def test_the_way_on_from_a_damaged_checkpoint_works_as_printed(trained_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "my run"
    shutil.copytree(trained_run, folder)
    whole = (folder / "last.ckpt").read_bytes()
    (folder / "last.ckpt").write_bytes(whole[: len(whole) // 2])
    assert main(["train", "--resume", str(folder)]) == 4
    told = " ".join(capsys.readouterr().err.split())
    command = shlex.split(told[told.index("atrous train --recipe") :])
    assert main([*command[1:], "--quiet"]) == 0
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_the_settings_of_a_run_are_read_without_its_tensors(tmp_path):
    saved = build()
    saved.record["settings"] = {"training.lr": 0.1, "stages": []}
    save_checkpoint(tmp_path / "last.ckpt", saved)
    assert load_record(tmp_path / "last.ckpt") == saved.record


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


WRAPPINGS = {
    "alone": lambda bomb: bomb,
    "as tensors": lambda bomb: {"network": bomb},
    "as version": lambda bomb: {"format_version": bomb},
    "as step": lambda bomb: {"format_version": FORMAT_VERSION, "step": bomb},
    "a path": lambda bomb: bomb.path,
}


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value, protocol=2))])
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_code_in_a_file_is_not_executed_and_no_advice_is_given_to_do_so(tmp_path, wrapping, save):
    path, trace = tmp_path / "last.ckpt", tmp_path / "executed"
    save(WRAPPINGS[wrapping](Bomb(trace)), path)
    for load in (load_checkpoint, load_record):
        with pytest.raises(ModelFileError, match=r"is damaged, or holds more than tensors and numbers") as caught:
            load(path)
        require_own_words(caught.value)
    assert not trace.exists()
    if save is not torch.save and wrapping != "a path":  # the bomb is real: what others do sets it off
        pickle.loads(path.read_bytes())
        assert trace.is_dir()
