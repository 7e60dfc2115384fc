"""Every shipped recipe trains: two steps on a few images in its data set's layout, with a small network."""

from __future__ import annotations

from importlib import resources

import numpy as np
import pytest
from PIL import Image

import atrous
from atrous import api
from atrous.config.load import list_recipes, load_config
from atrous.config.stages import list_stages
from atrous.core.labels import LabelSpace
from atrous.data.datasets.camvid import CAMVID
from atrous.data.datasets.cityscapes import CITYSCAPES
from atrous.data.datasets.voc import VOC

SMALL = {
    "model.weights": "none",
    "training.iterations": 2,
    "training.batch": 2,
    "training.validations": 1,
    "output.workers": 0,
}
DATA = {"animals": "voc", "street": "camvid"}
"""The data of recipes that are not named after them."""
TINY = {"model.head": {"rates": [1, 2], "channels": 8}, "training.crop": 33}


def save_pair(image, mask, space: LabelSpace, seed: int) -> None:
    """Write an image in columns of the classes' colours, and its mask."""
    columns = np.arange(space.num_classes).repeat(3)
    indices = np.broadcast_to(np.roll(columns, 7 * seed), (40, len(columns)))
    for path in (image, mask):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(space.colours, np.uint8)[indices]).save(image)
    Image.fromarray(space.decode(indices)).save(mask)


def lay_out(name, root):
    """Write four images in the layout of a recipe's data set; returns its source and options."""
    if name == "demo":
        return {"data.options": {"num_train": 12, "num_val": 2, "size": 65}}
    for number, split in enumerate(("train", "train", "val", "val")):
        stem = f"ulm_{number:06d}_000019"
        if name == "cityscapes":
            folders = [root / kind / split / "ulm" for kind in ("leftImg8bit", "gtFine")]
            files = folders[0] / f"{stem}_leftImg8bit.png", folders[1] / f"{stem}_gtFine_labelIds.png"
            save_pair(*files, CITYSCAPES, number)
        elif name == "street":
            save_pair(*(root / f"{split}{kind}" / f"{stem}.png" for kind in ("", "annot")), CAMVID, number)
        else:
            files = root / "JPEGImages" / f"{stem}.jpg", root / "SegmentationClass" / f"{stem}.png"
            save_pair(*files, VOC, number)
            lists = root / "ImageSets" / "Segmentation"
            lists.mkdir(parents=True, exist_ok=True)
            with (lists / f"{'train_aug' if split == 'train' else split}.txt").open("a") as file:
                file.write(f"{stem}\n")
    return {"data.source": f"{DATA.get(name, name)}={root}"}


SLOW_RECIPES = ("cityscapes",)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW_RECIPES else ()) for name in list_recipes()]
)
def test_a_recipe_takes_two_steps_in_every_stage(name, tmp_path):
    data = lay_out(name, tmp_path / "data")
    small = {**SMALL, **TINY, **({} if name == "demo" else {"model.name": "deeplabv3-resnet34"})}
    small["stages"] = [
        {key: value for key, value in stage.items() if key not in (*SMALL, *TINY)}
        for stage in load_config(recipe=name).config.stages
    ]
    loaded = load_config(recipe=name, options={**data, **small, "output.folder": str(tmp_path / "run")})
    stages = list_stages(loaded.config)
    run = api.run_training(loaded)
    assert not run.interrupted
    assert run.scores is not None
    assert atrous.load(run.folder).output_stride == stages[-1].model.output_stride
    assert len(list(tmp_path.glob("run/**/last.ckpt"))) == len(stages)


@pytest.mark.parametrize("name", list_recipes())
def test_a_recipe_that_names_the_papers_score_says_that_it_was_not_reproduced(name):
    text = (resources.files("atrous.config") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
    assert ("The paper reports mIoU" in text) == ("Not reproduced here" in text)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["voc", "cityscapes"])
def test_a_recipe_takes_a_step_at_its_real_size(name, tmp_path):
    data = lay_out(name, tmp_path / "data")
    once = {**SMALL, "training.batch": 1, "training.iterations": 1}
    run = api.run_training(load_config(recipe=name, options={**data, **once, "output.folder": str(tmp_path / "run")}))
    assert run.scores is not None
