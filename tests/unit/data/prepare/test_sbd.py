from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from atrous.core.errors import DataError, MachineError
from atrous.data.prepare.sbd import LARGEST_BYTES, convert_sbd_mask, require_mat_reader

scipy_io = pytest.importorskip("scipy.io")


def save(value, **options):
    buffer = io.BytesIO()
    scipy_io.savemat(buffer, value, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
@pytest.mark.parametrize("is_compressed", [True, False])
def test_ids_are_those_of_the_matrix(dtype, is_compressed):
    mask = np.random.default_rng(0).integers(0, 21, (6, 9)).astype(dtype)
    content = convert_sbd_mask("a.mat", save({"GTcls": {"Segmentation": mask}}, do_compression=is_compressed))
    with Image.open(io.BytesIO(content)) as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), mask)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no mask of SBD"),
        (b"text that is no matrix at all" * 20, "no mask of SBD"),
        (save({"other": np.ones((2, 2))}), "no mask of SBD"),
        (save({"GTcls": np.ones((2, 2))}), "no mask of SBD"),
        (save({"GTcls": {"Segmentation": "text"}}), "no mask of SBD"),
        (save({"GTcls": {"Segmentation": np.zeros((2, 2, 2))}}), "is no matrix of numbers"),
        (save({"GTcls": {"Segmentation": np.full((2, 2), 21)}}), "holds 21, which is no class of VOC"),
        (save({"GTcls": {"Segmentation": np.full((2, 2), 0.5)}}), "holds 0.5, which is no class of VOC"),
        (save({"GTcls": {"Segmentation": np.full((2, 2), np.nan)}}), "holds nan, which is no class of VOC"),
        (save({"GTcls": {"Segmentation": np.ones((9, 9))}}, do_compression=True)[:-20], "no mask of SBD"),
        (bytes(LARGEST_BYTES + 1), "bytes, and a mask of SBD has at most"),
    ],
)
def test_other_files_are_refused(content, message):
    with pytest.raises(DataError, match=message) as caught:
        convert_sbd_mask("d/a.mat", content)
    assert caught.value.message.startswith("d/a.mat")


def test_without_scipy_the_package_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MachineError, match="scipy, which reads them, is not installed"):
        require_mat_reader()
