from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from atrous.core.errors import DataError
from atrous.core.labels import IGNORE_INDEX
from atrous.core.split_options import SplitOptions
from atrous.data.contracts import DataRequest
from atrous.data.datasets.camvid import CAMVID, build_camvid


@pytest.fixture
def root(tmp_path):
    for split in ("train", "val", "test"):
        for name in (split, f"{split}annot"):
            (tmp_path / name).mkdir()
        Image.new("RGB", (12, 1)).save(tmp_path / split / "0001TP_1.jpg")
        Image.fromarray(np.arange(12, dtype=np.uint8)[None]).save(tmp_path / f"{split}annot" / "0001TP_1.png")
    return tmp_path


def test_classes_stand_in_segnets_order_and_11_is_void(root):
    assert CAMVID.names[0] == "sky"
    assert CAMVID.names[3] == "road"
    assert CAMVID.names[10] == "bicyclist"
    splits = build_camvid(root)
    np.testing.assert_array_equal(splits.train.get(0).labels, [[*range(11), IGNORE_INDEX]])
    assert splits.train.key(0) == "train/0001TP_1"
    assert splits.val.name == "camvid val"


def test_another_split_can_be_scored(root):
    assert build_camvid(root, DataRequest(split=SplitOptions(val="test"))).val.key(0) == "test/0001TP_1"


def test_missing_split_names_those_that_are_there(root):
    with pytest.raises(DataError, match="no split trial; there are: test, train, val") as caught:
        build_camvid(root, DataRequest(split=SplitOptions(train="trial")))
    assert "`set` data.split.train=" in caught.value.hint
