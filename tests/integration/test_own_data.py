"""Masks as people have them: trained on, scored and predicted under the ids that atrous.yaml names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import atrous
from atrous.cli.main import main
from atrous.config.load import load_config
from atrous.core.labels import build_palette
from atrous.data.build import build_splits

OPTIONS = (
    *("--model", "deeplabv3-tiny", "--weights", "none", "--crop", "65", "--batch", "2", "--iterations", "2"),
    *("--workers", "0", "--quiet", "--device", "cpu", "--set", "model.head={rates: [1, 2], channels: 16}"),
)
COLOURS = np.array([[0, 0, 0], [250, 50, 5]], np.uint8)


def save_images(root: Path, name: str = "images/{}.jpg", count: int = 6) -> list[np.ndarray]:
    """Write images of noise with a bright half, and return which half that is."""
    truths = []
    for number in range(count):
        truth = np.zeros((66, 70), np.uint8)
        truth[:, number * 10 :] = 1
        pixels = truth[..., None] * 150 + np.random.default_rng(number).integers(0, 100, (66, 70, 3))
        path = root / name.format(f"p{number}")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        truths.append(truth)
    return truths


def save_masks(root: Path, masks: list[np.ndarray], name: str = "masks/{}.png") -> None:
    for number, mask in enumerate(masks):
        path = root / name.format(f"p{number}")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)


def lay_out_0_255(root: Path) -> str:
    save_masks(root, [truth * 255 for truth in save_images(root)])
    return "label_map: {255: 7}, classes: {0: sky, 7: crack}"


def lay_out_negative(root: Path) -> str:
    masks = [truth.astype(np.int32) for truth in save_images(root)]
    for mask in masks:
        mask[:5] = -9999
    save_masks(root, masks, "masks/{}.tif")
    return "label_map: {1: 7}, classes: {0: sky, 7: crack}, ignore: [-9999]"


def lay_out_colours(root: Path) -> str:
    save_masks(root, [COLOURS[truth] for truth in save_images(root)])
    return "colours: {[0, 0, 0]: 0, [250, 50, 5]: 7}, classes: {0: sky, 7: crack}"


def lay_out_label_map_file(root: Path) -> str:
    save_masks(root, [COLOURS[truth] for truth in save_images(root)])
    (root / "labelmap.txt").write_text("sky:0,0,0::\ncrack:250,50,5::\n")
    return "colours: labelmap.txt"


def lay_out_template(root: Path) -> str:
    save_masks(root, save_images(root, "photos/a/{}_rgb.jpg"), "truth/{}.hand.png")
    for path in (root / "truth").iterdir():
        path.rename(root / "truth" / f"a_{path.name}")
    return "images: 'photos/a/{stem}_rgb.jpg', masks: 'truth/a_{stem}.hand.png', classes: [sky, crack]"


def lay_out_unlabelled(root: Path) -> str:
    save_masks(root, save_images(root))
    for number in range(3):
        (root / "masks" / f"p{number}.png").unlink()
    return "unlabelled: background, classes: {0: sky, 1: crack}"


CASES = {
    "0 and 255": (lay_out_0_255, {0, 7}),
    "negative": (lay_out_negative, {0, 7}),
    "colours": (lay_out_colours, {0, 7}),
    "unlabelled": (lay_out_unlabelled, {0, 1}),
    "template": (lay_out_template, {0, 1}),
    "labelmap.txt": (lay_out_label_map_file, {0, 1}),
}


@pytest.mark.parametrize("case", CASES)
def test_from_the_folder_to_predictions_and_again_from_the_run(case, tmp_path, capsys):
    lay_out, ids = CASES[case]
    data, run = tmp_path / "photos", tmp_path / "run"
    settings = lay_out(data)
    (data / "atrous.yaml").write_text(f"data: {{{settings}}}\n")

    assert main(["check", str(data), "--json", "--out", str(tmp_path / "check.html")]) in (0, 1)
    checked = json.loads(capsys.readouterr().out)
    assert {row["id"] for row in checked["classes"] if row["name"] in ("sky", "crack")} == ids
    assert main(["train", str(data), "--out", str(run), *OPTIONS]) == 0
    capsys.readouterr()
    scores = {}
    for arguments in ([str(run)], [str(run), str(data)]):
        assert main(["eval", *arguments, "--json", "--device", "cpu"]) == 0
        scores[len(arguments)] = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in scores[1]["classes"]] == ["sky", "crack"]
    assert (
        main(
            [
                "predict",
                str(data / ("photos/a" if case == "template" else "images")),
                "--model",
                str(run),
                "--out",
                str(tmp_path / "out"),
                "--quiet",
            ]
        )
        == 0
    )
    found = {
        int(number)
        for path in (tmp_path / "out").glob("p*.png")
        for number in np.unique(Image.open(path))
        if "confidence" not in path.name
    }
    assert found <= ids

    before = build_splits(load_config(options={"data.source": str(data)}).config.data)
    (data / "atrous.yaml").unlink()  # config.yaml of the run has every key of the data
    after = build_splits(load_config(recipe=run / "config.yaml").config.data)
    assert (after.train, after.val) == (before.train, before.val)


def test_a_class_is_drawn_in_the_colour_that_its_data_give_it(tmp_path):
    data, run = tmp_path / "photos", tmp_path / "run"
    lay_out_0_255(data)
    drawn = "{0: {name: sky, colour: [0, 90, 255]}, 7: {name: crack, colour: [255, 0, 200]}, 9: dust}"
    (data / "atrous.yaml").write_text(f"data: {{label_map: {{255: 7}}, classes: {drawn}, split: {{val: 0.4}}}}\n")
    (data / "masks" / "p0.png").unlink()
    mask = np.array(Image.open(data / "masks" / "p1.png"))
    mask[:9] = 9
    for name in ("p0", "p1"):
        Image.fromarray(mask).save(data / "masks" / f"{name}.png")
    assert main(["train", str(data), "--out", str(run), *OPTIONS]) == 0
    model = atrous.load(run, device="cpu")
    space = model.label_space
    assert dict(zip(space.ids, space.colours, strict=True)) == {
        0: (0, 90, 255),
        7: (255, 0, 200),
        9: build_palette(3)[2],
    }
    assert main(["eval", str(run), str(data), "--quiet", "--device", "cpu"]) == 0
    words = ["predict", str(data / "images" / "p3.jpg"), "--model", str(run), "--out", str(tmp_path / "out"), "--quiet"]
    assert main([*words, "--format", "labels,overlay"]) == 0
    palette = Image.open(tmp_path / "out" / "p3.png").getpalette()
    assert palette is not None
    assert [palette[3 * number : 3 * number + 3] for number in (0, 7)] == [[0, 90, 255], [255, 0, 200]]
    labels = np.array(Image.open(tmp_path / "out" / "p3.png"))
    image, overlay = (
        np.array(Image.open(path), int) for path in (data / "images" / "p3.jpg", tmp_path / "out" / "p3_overlay.jpg")
    )
    for number in np.unique(labels):
        colour = np.array(space.colours[space.ids.index(number)])
        before, after = (np.abs(pixels[labels == number] - colour).mean() for pixels in (image, overlay))
        assert after < 0.7 * before
