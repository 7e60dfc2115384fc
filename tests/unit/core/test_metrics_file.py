from __future__ import annotations

import pytest

from atrous.core.errors import ModelFileError
from atrous.core.metrics_file import is_finished, load_metrics, load_scores, save_metrics


def test_a_training_without_metrics_is_not_finished(tmp_path):
    path = tmp_path / "metrics.json"
    assert not is_finished(path)
    for interrupted in (True, False):
        save_metrics(path, {"training": {"interrupted": interrupted}})
        assert is_finished(path) != interrupted


@pytest.mark.parametrize("load", [load_metrics, load_scores, is_finished])
@pytest.mark.parametrize("content", [b"", b"{", b'{"miou": 0.5', b"[]", b"7", b"\xff\xfe\x00", b"[" * 100_000])
def test_a_damaged_file_is_one_clear_error(tmp_path, load, content):
    path = tmp_path / "metrics.json"
    path.write_bytes(content)
    with pytest.raises(ModelFileError) as caught:
        load(path)
    assert caught.value.message.startswith(f"{path}: cannot be read: ")
    assert caught.value.hint.startswith("Delete it and resume the run")


@pytest.mark.parametrize("content", ["{}", '{"training": 3}', '{"miou": 0.5, "classes": 7, "training": {}}'])
def test_records_that_do_not_fit_are_the_same_error(tmp_path, content):
    path = tmp_path / "metrics.json"
    path.write_text(content)
    for load in (load_scores, is_finished):
        with pytest.raises(ModelFileError, match="cannot be read"):
            load(path)
