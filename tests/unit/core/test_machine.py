from __future__ import annotations

import os
from pathlib import Path

import pytest

from atrous.core import machine


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    return tmp_path


LIMITS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")


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


@pytest.mark.parametrize(
    ("line", "group", "memory", "quota"),
    [
        ("0::/system.slice/job_7/task_0", "system.slice/job_7", "max current", {"cpu.max": "100000 100000"}),
        (
            "4:memory:/job_7\n3:cpu,cpuacct:/job_7",
            "{controller}/job_7",
            "limit_in_bytes usage_in_bytes",
            {"cpu.cfs_quota_us": "100000", "cpu.cfs_period_us": "100000"},
        ),
    ],
)
def test_limits_of_a_job_are_those_of_its_group_or_of_one_above(
    cgroup, tmp_path, monkeypatch, line, group, memory, quota
):
    monkeypatch.setattr(machine, "PROC", tmp_path / "proc")
    write(tmp_path / "proc/self/cgroup", line)
    write(tmp_path / "proc/meminfo", "MemTotal: 8388608 kB\nMemAvailable: 8388608 kB")
    limit, usage = (cgroup / group.format(controller="memory") / f"memory.{word}" for word in memory.split())
    write(limit, str(512 * 2**20))
    write(usage, str(500 * 2**20))
    for name, text in quota.items():
        write(cgroup / group.format(controller="cpu") / name, text)
    assert machine.count_usable_cores() == 1
    assert machine.find_memory_mib() == 512
    assert machine.compute_free_bytes() == 12 * 2**20


@pytest.mark.parametrize("files", [{"cpu.max": "max 100000", "memory.max": "max"}, {"cpu/cpu.cfs_quota_us": "-1"}])
def test_a_container_without_limits_is_the_machine(cgroup, files):
    unlimited = machine.count_usable_cores(), machine.compute_total_bytes()
    write(cgroup / "cpu/cpu.cfs_period_us", "100000")
    write(cgroup / "memory/memory.limit_in_bytes", str(2**63 - 4096))
    for name, text in files.items():
        write(cgroup / name, text)
    assert (machine.count_usable_cores(), machine.compute_total_bytes()) == unlimited


@pytest.mark.parametrize(
    ("variable", "value", "has_bf16", "has_avx512"),
    [
        ("UNRELATED", "1", True, True),
        ("ATEN_CPU_CAPABILITY", "avx512", True, True),
        ("ATEN_CPU_CAPABILITY", "avx2", False, False),
        ("ONEDNN_MAX_CPU_ISA", "AVX2_VNNI", False, False),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_VNNI", False, True),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_AMX", True, True),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16", True, True),
        ("DNNL_MAX_CPU_ISA", "AVX2", False, False),
    ],
)
def test_features_are_those_that_pytorch_may_use(tmp_path, monkeypatch, variable, value, has_bf16, has_avx512):
    for name in LIMITS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, value)
    monkeypatch.setattr(machine, "PROC", tmp_path)
    assert machine.find_cpu_features() == frozenset()
    write(tmp_path / "cpuinfo", "processor : 0\nflags\t\t: sse avx2 avx512f avx512_bf16\n\nprocessor : 1\nflags : sse")
    features = machine.find_cpu_features()
    assert "avx2" in features
    assert ("avx512f" in features, "avx512_bf16" in features) == (has_avx512, has_bf16)


@pytest.mark.parametrize(
    ("limit", "kind"),
    [
        ("ALL", "amx"),
        ("AVX512_CORE_AMX", "amx"),
        ("AVX512_CORE_AMX_FP16", "amx"),
        ("AVX512_CORE_FP16", "avx512"),
        ("avx512_core_bf16", "avx512"),
        ("AVX512_CORE", "avx512"),
        ("AVX10_1_512", "avx512"),  # another name of AVX512_CORE_FP16
        ("avx10_2", "avx512"),
        ("AVX10_2_512", "avx512"),
        ("AVX10_1_512_AMX", "amx"),
        ("AVX10_1_512_AMX_FP16", "amx"),
        ("AVX10_2_512_AMX_2", "amx"),
        ("AVX2_VNNI_2", "avx2"),
        ("SSE41", "avx2"),  # PyTorch's own kernels are not limited by it
    ],
)
@pytest.mark.parametrize("name", ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"])
def test_the_kind_of_cpu_is_that_of_the_kernels_that_are_allowed(tmp_path, monkeypatch, name, limit, kind):
    for each in LIMITS:
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(name, limit)
    monkeypatch.setattr(machine, "PROC", tmp_path)
    write(tmp_path / "cpuinfo", "flags : sse4_1 avx2 avx512f avx512_bf16 avx512_fp16 amx_tile amx_int8 amx_bf16")
    assert machine.find_cpu_kind() == kind


def test_affinity_counts(cgroup):
    usable = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(usable)})
        assert machine.count_usable_cores() == 1
    finally:
        os.sched_setaffinity(0, usable)
