"""Files that come from elsewhere are hostile: however they are changed, reading them ends well."""

from __future__ import annotations

import numpy as np
import pytest

import mutated

NUM_CASES = {"image": 90, "annotation": 60, "other": 32}
NUM_LONG_CASES = {"image": 1000, "annotation": 500, "other": 200}


@pytest.mark.parametrize("kind", mutated.KINDS)
def test_a_changed_file_is_read_or_refused_and_nothing_else_happens(kind, tmp_path):
    with mutated.prepare(kind) as wholes:
        faults = {}
        for number in range(NUM_CASES[kind]):
            folder = tmp_path / str(number)
            folder.mkdir()
            ended = mutated.run_case(kind, number, folder, wholes)
            if ended not in ("read", "refused"):
                faults[number] = ended
    assert faults == {}


@pytest.mark.slow
@pytest.mark.parametrize("kind", mutated.KINDS)
def test_many_changed_files_crash_and_hang_nothing(kind):
    found = mutated.watch(kind, NUM_LONG_CASES[kind])
    assert set(found) <= {"read", "refused"}, found


@pytest.mark.parametrize("kind", mutated.KINDS)
def test_whole_files_are_read(kind, tmp_path):
    with mutated.prepare(kind) as wholes:
        for name, content in wholes.items():
            path = tmp_path / name.replace(".", "_") / name
            path.parent.mkdir()
            path.write_bytes(content)
            mutated.KINDS[kind][1](path)


def test_a_fault_is_noticed(tmp_path, monkeypatch):
    def crash(path):
        raise ZeroDivisionError("oh")

    def write(path):
        (path.parent / "stranger").touch()

    for read, ended in ((crash, "ZeroDivisionError"), (write, "stranger")):
        folder = tmp_path / ended
        folder.mkdir()
        monkeypatch.setitem(mutated.KINDS, "image", (mutated.build_images, read))
        assert ended in mutated.run_case("image", 0, folder, mutated.build_images())


def test_changes_are_many_and_the_same_for_the_same_number():
    content = bytes(range(256)) * 4
    changed = [mutated.mutate(content, np.random.default_rng(number)) for number in (*range(50), 0)]
    assert changed[0] == changed[-1]
    assert len(set(changed)) > 45
    text = mutated.RECIPE.encode()
    assert len({mutated.mutate_text(text, np.random.default_rng(number)) for number in range(50)}) > 40
