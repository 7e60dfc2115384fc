"""`atrous models show` of a trained model: what its file tells, whatever kind of file it is."""

from __future__ import annotations

import json

import pytest

import atrous
from atrous.cli.main import main
from atrous.core.run_folder import RunFolder

SETTINGS = {"model": "fcn-tiny", "weights": "none", "crop": 65, "batch": 2, "iterations": 1, "progress": False}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "first"
    atrous.train(
        "shapes", out=folder, set={"data.options": {"num_train": 12, "num_val": 3}}, on_message=str, **SETTINGS
    )
    return folder


def test_a_run_its_file_and_its_exported_file_tell_the_same(run, tmp_path, capsys):
    exported, _ = atrous.export(run, tmp_path / "model.onnx", on_message=str)
    metrics = json.loads(RunFolder(run).metrics.read_text())
    for path in (run, RunFolder(run).model, exported):
        assert main(["models", "show", str(path)]) == 0
        shown = capsys.readouterr().out
        assert f"mIoU: {metrics['miou']:.4f} on shapes val, 3 images" in shown
        assert "trained on: shapes train, 12 images" in shown
        assert "network: fcn-tiny weights none output stride 16" in shown
        assert "protocol: output stride 16, one scale, no flip" in shown
        for row in metrics["classes"]:
            iou = "" if row["iou"] is None else f"{row['iou']:.4f}"
            assert any(row["name"] in line and iou in line for line in shown.splitlines())
        assert main(["models", "show", str(path), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["class_iou"] == [row["iou"] for row in metrics["classes"]]
        assert (found["num_images"], found["num_scored"]) == (12, 3)
        assert found["bytes"] > 1000


def test_a_network_that_no_training_made_tells_its_classes_alone(tmp_path, capsys):
    atrous.save(atrous.build("fcn-tiny", classes=["road", "sky"]), tmp_path / "plain.safetensors")
    assert main(["models", "show", str(tmp_path / "plain.safetensors")]) == 0
    shown = capsys.readouterr().out
    assert "sky" in shown
    assert "mIoU:" not in shown
    assert "trained on" not in shown


def test_a_folder_without_a_model_is_refused(tmp_path, capsys):
    assert main(["models", "show", str(tmp_path)]) == 4
    assert "holds no model.safetensors" in capsys.readouterr().err
