from __future__ import annotations

import errno
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from atrous.core.errors import DataError, MachineError, UsageError
from atrous.core.system_errors import describe_shortage, describe_write_error, is_out_of_memory


def provoke(allocate) -> Exception:
    """Return the error with which a library reports that it got no memory."""
    with pytest.raises(Exception) as caught:  # noqa: PT011  each library has its own
        allocate()
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        provoke(lambda: torch.empty(2**60)),
        provoke(lambda: np.empty(2**55)),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("could not create a primitive"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("unable to mmap 4096 bytes from file <m.pth>: Cannot allocate memory (12)"),
        RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer"),
        RuntimeError("Caught MemoryError in DataLoader worker process 0."),
        cv2.error("OpenCV(5.0.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 40000 bytes"),
        OSError("out of memory error when reading image file"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    ],
    ids=lambda error: f"{type(error).__name__}: {error}"[:40],
)
def test_errors_of_memory_are_known_by_whoever_raises_them(error):
    assert is_out_of_memory(error)
    outer = RuntimeError("the graph cannot be opened")
    outer.__cause__ = error
    assert describe_shortage(outer, "a.png").message == "a.png: out of memory"


def test_errors_that_rust_has_turned_into_text_are_known_by_their_number():
    error = RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert describe_shortage(error, "m.safetensors").message == "m.safetensors: no space left on the disk"
    assert describe_shortage(RuntimeError("I/O error: not found (os error 2)")) is None


@pytest.mark.parametrize(
    ("free", "said"),
    [(3 * 2**20 + 5, "3 MiB free"), (2**30, "1,024 MiB free: is the number of files or a quota used up?")],
)
def test_a_full_disk_says_how_much_is_free_there(tmp_path, monkeypatch, free, said):
    asked = []
    monkeypatch.setattr("shutil.disk_usage", lambda place: asked.append(place) or SimpleNamespace(free=free))
    error = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "not" / "made" / "a.json"))
    assert describe_shortage(error).message.endswith(f"a.json: no space left on the disk ({said})")
    assert asked == [tmp_path]
    assert describe_shortage(error, "standard output").message.startswith("standard output: no space left on the disk")


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("can't start new thread"),
        RuntimeError("Exception from src/inference/src/dev/plugin.cpp:54:\nResource temporarily unavailable\n"),
    ],
)
def test_a_system_that_starts_no_more_threads_is_a_shortage(error):
    assert describe_shortage(error, "m.onnx").message == "m.onnx: no more threads can be started here"


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("size mismatch"),
        BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
        ValueError("no class 'out of memory'"),
        KeyError("out of memory"),
        DataError("a.png: out of memory"),
        OSError(errno.ENOENT, "No such file"),
        KeyboardInterrupt(),
    ],
)
def test_other_errors_are_no_shortage(error):
    assert not is_out_of_memory(error)
    assert describe_shortage(error) is None


@pytest.mark.parametrize(
    ("number", "kind", "message"),
    [
        (errno.ENOSPC, MachineError, "no space left on the disk"),
        (errno.EDQUOT, MachineError, "the disk quota is used up"),
        (errno.EFBIG, MachineError, "larger than a file may be here"),
        (errno.EMFILE, MachineError, "too many open files"),
        (errno.ENFILE, MachineError, "too many open files"),
        (errno.ENOMEM, MachineError, "out of memory"),
        (errno.EACCES, MachineError, "no permission to write"),
        (errno.EPERM, MachineError, "no permission to write"),
        (errno.EROFS, MachineError, "the disk is read-only"),
        (errno.EIO, MachineError, "the disk reports an error"),
        (errno.ESTALE, MachineError, "strange"),
        (errno.EEXIST, UsageError, "a file of this name exists"),
        (errno.ENOTDIR, UsageError, "a part of the path is a file, not a folder"),
        (errno.EISDIR, UsageError, "is a folder, not a file"),
        (errno.ENOENT, UsageError, "the folder does not exist and cannot be made"),
        (errno.ENAMETOOLONG, UsageError, "the name is too long"),
        (errno.ELOOP, UsageError, "its links lead in a circle"),
    ],
)
def test_each_reason_not_to_write_has_its_message_and_only_space_is_to_be_freed(number, kind, message):
    for path in (None, "runs/x"):
        error = describe_write_error(OSError(number, "strange", "runs/x"), path)
        assert (type(error), error.message.split(" (")[0]) == (kind, f"runs/x: {message}")
        assert error.hint
        assert ("Free some space" in error.hint) == (number in (errno.ENOSPC, errno.EDQUOT))
    assert describe_write_error(OSError(number, "strange")).message == message
