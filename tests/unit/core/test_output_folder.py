from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from atrous.core.errors import AtrousError, MachineError, UsageError
from atrous.core.output_folder import LOCK_NAME, hold_folder, hold_numbered_folder, open_folder, require_place

OPENERS = {"open": open_folder, "hold": hold_folder}


def check_file(folder: Path) -> nullcontext[None]:
    require_place(folder / "a.onnx")
    return nullcontext()


@pytest.mark.parametrize("opened", [*OPENERS.values(), check_file], ids=[*OPENERS, "file"])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("file", "a file of this name exists|is a file"),
        ("file/below", "is a file"),
        ("file/below/further", "is a file"),
        ("dangling", "a file of this name exists"),
        ("loop/x", "circle"),
        ("x" * 300, "too long"),
        ("null\0byte", "null"),
        ("/proc/x", "cannot be made"),
        ("/sys/x", "cannot be made|permission"),
        ("/dev/null/x", "is a file"),
    ],
)
def test_impossible_folders_are_refused_in_words_and_nothing_is_left(tmp_path, opened, name, reason):
    (tmp_path / "file").write_text("kept")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere" / "else")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises((UsageError, MachineError), match=reason) as caught, opened(tmp_path / name):
        pass
    assert caught.value.hint
    assert sorted(os.listdir(tmp_path)) == before
    assert (tmp_path / "file").read_text() == "kept"


def test_a_folder_in_place_of_a_file_is_refused(tmp_path):
    with pytest.raises(UsageError, match="is a folder"):
        require_place(tmp_path)


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(MachineError, match="no permission"), open_folder(tmp_path / "x"):
        pass


@pytest.mark.parametrize("opened", OPENERS.values(), ids=OPENERS)
def test_folders_that_stay_empty_are_removed_and_others_stay(tmp_path, opened):
    (tmp_path / "was-here").mkdir()
    with pytest.raises(RuntimeError), opened(tmp_path / "a" / "b"):
        raise RuntimeError
    with opened(tmp_path / "was-here"):
        pass
    assert os.listdir(tmp_path) == ["was-here"]
    with opened(tmp_path / "c" / "d"):
        (tmp_path / "c" / "d" / "result").touch()
    assert [path.name for path in (tmp_path / "c").rglob("*")] == ["d", "result"]


def test_a_held_folder_is_refused_to_others_until_it_is_released(tmp_path):
    with hold_folder(tmp_path), pytest.raises(UsageError, match="this process is writing there"):
        with hold_folder(tmp_path):
            pass
    with hold_folder(tmp_path):
        assert os.listdir(tmp_path) == [LOCK_NAME]
    assert not os.listdir(tmp_path)


def test_of_many_threads_one_at_a_time_holds_a_folder_that_comes_and_goes(tmp_path):
    inside, most, refused = [], [], []

    def hold(number: int) -> None:
        try:
            with hold_folder(tmp_path / "x" / "y"):
                inside.append(number)
                most.append(len(inside))
                inside.remove(number)
        except UsageError:
            refused.append(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(hold, range(200)))
    assert set(most) == {1}
    assert len(most) + len(refused) == 200
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


HOLD = """
import os, sys, time
from pathlib import Path
from atrous.core.output_folder import hold_folder
with hold_folder(Path(sys.argv[1])):
    if sys.argv[2] == "workers" and os.fork() == 0:
        time.sleep(1)  # a worker process has the lock too, and outlives its parent for a moment
        os._exit(0)
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def holder(folder: Path, *, workers: bool = False):
    words = [sys.executable, "-c", HOLD, str(folder), "workers" if workers else "alone"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.mark.parametrize("workers", [False, True])
def test_death_releases_a_folder(tmp_path, workers):
    with holder(tmp_path, workers=workers) as process:
        with pytest.raises(UsageError, match=f"process {process.pid} is writing"), hold_folder(tmp_path):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        with hold_folder(tmp_path):
            pass
    assert not os.listdir(tmp_path)


def test_file_systems_without_locks_keep_no_one_out(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with hold_folder(tmp_path):
        (tmp_path / "result").touch()
    assert os.listdir(tmp_path) == ["result"]


def test_threads_that_hold_numbered_folders_get_different_ones(tmp_path):
    barrier = threading.Barrier(8)

    def hold(_: int) -> Path:
        with hold_numbered_folder(tmp_path / "runs" / "data-model") as folder:
            barrier.wait()
        return folder

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(hold, range(8)))
    assert {path.name for path in found} == {f"data-model-{number}" for number in range(1, 9)}
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    with pytest.raises(AtrousError), hold_numbered_folder(Path("/proc/x")):
        pass


def test_what_a_killed_process_was_writing_is_removed_by_the_next_one_that_holds_the_folder(tmp_path):
    (tmp_path / ".part-0123abcd.ckpt").touch()
    (tmp_path / "last.ckpt").touch()
    with hold_folder(tmp_path):
        assert sorted(os.listdir(tmp_path)) == [LOCK_NAME, "last.ckpt"]
