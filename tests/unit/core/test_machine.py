from __future__ import annotations

import os
from pathlib import Path

import pytest

from atrous.core import machine


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


@pytest.mark.usefixtures("cgroup")
def test_without_a_container_the_machine_counts():
    assert machine.count_usable_cores() == len(os.sched_getaffinity(0))
    assert machine.compute_total_bytes() == pytest.approx(
        os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), rel=0.02
    )
    assert 0 < machine.compute_free_bytes() < machine.compute_total_bytes()


def test_limits_of_version_2(cgroup):
    write(cgroup / "cpu.max", "100000 100000")
    write(cgroup / "memory.max", str(512 * 2**20))
    write(cgroup / "memory.current", str(500 * 2**20))
    assert machine.count_usable_cores() == 1
    assert machine.find_memory_mib() == 512
    assert machine.compute_free_bytes() == 12 * 2**20


def test_limits_of_version_1(cgroup):
    write(cgroup / "cpu/cpu.cfs_quota_us", "50000")
    write(cgroup / "cpu/cpu.cfs_period_us", "100000")
    write(cgroup / "memory/memory.limit_in_bytes", str(512 * 2**20))
    write(cgroup / "memory/memory.usage_in_bytes", str(600 * 2**20))
    assert machine.count_usable_cores() == 1
    assert machine.find_memory_mib() == 512
    assert machine.compute_free_bytes() == 0


@pytest.mark.parametrize("files", [{"cpu.max": "max 100000", "memory.max": "max"}, {"cpu/cpu.cfs_quota_us": "-1"}])
def test_a_container_without_limits_is_the_machine(cgroup, files):
    unlimited = machine.count_usable_cores(), machine.compute_total_bytes()
    write(cgroup / "cpu/cpu.cfs_period_us", "100000")
    write(cgroup / "memory/memory.limit_in_bytes", str(2**63 - 4096))
    for name, text in files.items():
        write(cgroup / name, text)
    assert (machine.count_usable_cores(), machine.compute_total_bytes()) == unlimited


def test_affinity_counts(cgroup):
    usable = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(usable)})
        assert machine.count_usable_cores() == 1
    finally:
        os.sched_setaffinity(0, usable)
