from __future__ import annotations

import numpy as np
import openvino
import pytest
from openvino import opset13

from atrous.core.errors import MachineError
from atrous.core.files import atomic_path
from atrous.exporting.openvino_ir import OpenVinoIR


@pytest.fixture
def written() -> OpenVinoIR:
    """A graph with 64 KiB of weights."""
    image = opset13.parameter([1, 2**14], np.float32)
    weights = opset13.constant(np.random.default_rng(0).normal(size=(1, 2**14)).astype(np.float32))
    graph = OpenVinoIR.__new__(OpenVinoIR)
    graph._model = openvino.Model([opset13.add(image, weights)], [image])
    return graph


def test_a_limit_of_files_is_not_called_a_full_disk(tmp_path, written, small_files):
    with pytest.raises(MachineError) as caught, atomic_path(tmp_path / "a.xml") as temporary:
        written.save(temporary, {})
    assert caught.value.message == f"{tmp_path / 'a.xml'}: larger than a file may be here"


def test_a_failed_write_on_a_disk_with_space_is_not_called_a_full_disk(tmp_path, written, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("basic_ios::clear: iostream error")

    monkeypatch.setattr(openvino, "save_model", fail)
    with pytest.raises(MachineError) as caught, atomic_path(tmp_path / "a.xml") as temporary:
        written.save(temporary, {})
    assert caught.value.message == f"{tmp_path / 'a.xml'}: OpenVINO could not write it, and does not say why"
    assert list(tmp_path.glob("*.xml")) == []
