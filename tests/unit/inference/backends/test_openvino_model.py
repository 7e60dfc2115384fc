from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import onnx
import openvino
import pytest
from onnx import helper

SCRIPT = """
import os, resource, sys
from pathlib import Path
from types import SimpleNamespace
import torch
from atrous.core.errors import AtrousError
from atrous.inference.backends.openvino_model import OpenVinoModel, find_core

resource.setrlimit(resource.RLIMIT_CPU, (30, 30))  # that of each process: short of memory, OpenVINO may spin
find_core()
onnx_file, xml_file = map(Path, sys.argv[1:])
for kind, source in (("bytes", onnx_file.read_bytes()), ("onnx", onnx_file), ("xml", xml_file)):
    for kib in (64, 2**21):  # in between it can hang
        if not os.fork():
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + kib * 1024,) * 2)
            graph = SimpleNamespace(name="it", num_classes=3, aligned=True, output="labels", source=source)
            try:
                OpenVinoModel(graph, device=torch.device("cpu"), precision="fp32")
                outcome = "opened"
            except (AtrousError, MemoryError) as error:
                outcome = f"{type(error).__name__}: {error}".replace(chr(10), " ")
            os.write(1, f"{kind}|{kib}|{outcome}\\n".encode())
            os._exit(0)
        os.wait()
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory of a process is limited by Linux alone")
def test_short_memory_is_never_called_a_damaged_graph(tmp_path):
    shape = [1, 3, None, None]
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "graph", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "a.onnx")
    openvino.save_model(openvino.Core().read_model(model.SerializeToString()), tmp_path / "a.xml")
    words = [sys.executable, "-c", SCRIPT, str(tmp_path / "a.onnx"), str(tmp_path / "a.xml")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            said, _ = process.communicate(timeout=200)
        finally:  # a process that hangs has the pipe open, and would outlive the one that forked it
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0
    rows = [line.split("|") for line in said.splitlines()]
    outcomes = {(kind, int(kib)): outcome for kind, kib, outcome in rows}
    for kind in ("bytes", "onnx", "xml"):
        assert outcomes[kind, 64].startswith("MachineError: ")
        assert "memory" in outcomes[kind, 64]
        assert outcomes[kind, 2**21] == "opened"
