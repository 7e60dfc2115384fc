from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import atrous
from atrous.cli.main import main
from atrous.core.errors import UsageError
from atrous.data.datasets.shapes import build_shapes

SIDE = 65


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Path, list[Path]]:
    """A folder of 14 images, and three short runs on it: two that differ in the seed alone, and a longer one."""
    folder = tmp_path_factory.mktemp("comparison")
    drawn = build_shapes(num_train=14, num_val=1, size=SIDE).train
    for index in range(14):
        for kind, pixels in (("images", drawn.get(index).image), ("masks", drawn.mask(index).astype(np.uint8))):
            (folder / "data" / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / "data" / kind / f"p{index:02}.png")
    made = []
    for name, iterations, seed in (("a0", 2, 0), ("a1", 2, 1), ("b0", 4, 0)):
        settings = {"model": "fcn-tiny", "weights": "none", "crop": SIDE, "batch": 2, "lr": 0.3, "validations": 1}
        atrous.train(folder / "data", out=folder / name, iterations=iterations, seed=seed, **settings)
        made.append(folder / name)
    return folder / "data", made


def test_the_command_compares_on_the_data_and_writes_what_differs(runs, tmp_path, capsys):
    data, (first, second, other) = runs
    words = ["eval", str(first), str(second), str(other), str(data), "--quiet", "--out", str(tmp_path)]
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [len(each["images"]) for each in found["models"]] == [14, 14, 14]
    sides = found["comparison"]["sides"]
    assert [side["models"] for side in sides] == [["a0", "a1"], ["b0"]]
    assert sides[0]["miou"] == pytest.approx(np.mean([each["miou"] for each in found["models"][:2]]))
    (difference,) = found["comparison"]["differences"]
    assert difference["miou"] == pytest.approx(sides[1]["miou"] - sides[0]["miou"])
    assert difference["interval"][0] < difference["miou"] < difference["interval"][1]
    saved = json.loads((tmp_path / "comparison.json").read_text())
    rows = saved["comparison"]["differences"][0]["images"]
    assert rows
    for row in rows:
        with Image.open(tmp_path / row["file"]) as image:
            assert image.size == (4 * SIDE, SIDE)
    with Image.open(tmp_path / rows[0]["file"]) as image, Image.open(data / "images" / f"{rows[0]['key']}.png") as own:
        np.testing.assert_array_equal(np.asarray(image)[:, :SIDE], np.asarray(own))
    assert main(words) == 0  # its own file is replaced
    text = " ".join(capsys.readouterr().out.split())
    assert "b0 against a0" in text
    assert "a0 a1 differ in the seed alone: mIoU" in text
    assert "95 % intervals over 14 images" in text


def test_scores_of_a_comparison_are_those_of_evaluate(runs):
    data, (first, _, other) = runs
    heard = []
    found = atrous.compare(
        [first, atrous.load(other)], data, progress=False, on_scores=lambda name, scores: heard.append((name, scores))
    )
    assert heard == list(found.scores.items())
    for path in (first, other):
        assert found.scores[path.name].confusion == atrous.evaluate(path, data, progress=False).confusion


@pytest.mark.parametrize("source", ["/elsewhere/photos", "python"])
def test_runs_on_other_data_are_no_runs_of_another_seed(runs, tmp_path, source):
    data, (first, second, _) = runs
    moved = tmp_path / "c1"
    shutil.copytree(second, moved)
    text = (moved / "config.yaml").read_text()
    assert str(data) in text
    (moved / "config.yaml").write_text(text.replace(str(data), source))
    found = atrous.compare([first, moved], data, progress=False)
    assert [side.models for side in found.sides] == [(found.sides[0].name,), (found.sides[1].name,)]


def test_what_cannot_be_compared_is_refused(runs, tmp_path):
    data, (first, _, other) = runs
    with pytest.raises(UsageError, match="1 different models to compare"):
        atrous.compare([first, first], data)
    (tmp_path / "comparison.json").write_text("[]")
    with pytest.raises(UsageError, match=r"comparison\.json"):
        atrous.compare([first, other], data, out=tmp_path)
    (tmp_path / "comparison.json").unlink()
    (tmp_path / "differing").mkdir()
    (tmp_path / "differing/2-1.png").write_bytes(b"a picture of another program")
    with pytest.raises(UsageError, match=r"2-1\.png exists, and would be lost"):
        atrous.compare([first, other], data, out=tmp_path)
