"""What this process may use of the machine: cores, memory, instruction sets.

Limits of a container or of a scheduler's job (cgroup version 1 or 2) count as the machine's. The quota of CPU time is
read once; everything else is read at each call.
"""

from __future__ import annotations

import functools
import itertools
import os
from pathlib import Path
from typing import Literal

CGROUP = Path("/sys/fs/cgroup")
"""Where Linux lists the limits of groups of processes; the group at the top is the container, if there is one."""
PROC = Path("/proc")
"""Where Linux describes the machine."""
SHARED_MEMORY = Path("/dev/shm")
"""Where Linux keeps memory that processes share; containers limit it to 64 MiB unless they are told otherwise."""

Kind = Literal["amx", "avx512", "avx2", "other"]
"""Kind of a CPU, by what its fastest kernels use."""

_MEMORY_FILES = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
"""Limit and usage of a group, of version 2 and of version 1."""


def count_usable_cores() -> int:
    """Return the number of cores that this process may use: its CPU affinity or its container's quota, at least 1."""
    return max(1, min([count_own_cores(), *_list_quotas(CGROUP, PROC)]))


def count_own_cores() -> int:
    """Return the number of cores that this process may run on, at least 1: its CPU affinity, without quotas."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.lru_cache(maxsize=1)
def _list_quotas(cgroup: Path, proc: Path) -> tuple[int, ...]:
    """Return the CPU quotas of this process's groups, in cores. Read once: it takes a tenth of a millisecond.

    Args:
        cgroup: `CGROUP`.
        proc: `PROC`.
    """
    quotas = [_read_cpu_quota(group) for group in _list_groups("cpu")]
    return tuple(round(quota / period) for quota, period in quotas if quota > 0 and period > 0)


def _read_cpu_quota(group: Path) -> tuple[int, int]:
    """Return microseconds of CPU time per period of so many microseconds; a quota of -1 means no limit."""
    words = _read_words(group / "cpu.max")
    if len(words) == 2:
        return (-1 if words[0] == "max" else int(words[0])), int(words[1])
    quota, period = (_read_words(group / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    return (int(quota[0]), int(period[0])) if quota and period else (-1, 1)


def _list_groups(controller: str) -> list[Path]:
    """Return the folders of the groups that this process is in, from its own to the top, of either version."""
    folders = []
    path = PROC / "self" / "cgroup"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    own = {names: group.strip("/") for _, names, group in (line.split(":", 2) for line in lines)}
    for top, names in ((CGROUP, ""), (CGROUP / controller, controller)):
        group = next((group for each, group in own.items() if names in each.split(",")), "")
        folders += [top / group, *(top / parent for parent in Path(group).parents)]
    return folders


def find_cpu_features() -> frozenset[str]:
    """Return the instruction sets that PyTorch may use here, by the names of /proc/cpuinfo, such as "avx512_bf16".

    The lower of the limits of PyTorch (ATEN_CPU_CAPABILITY) and of oneDNN (ONEDNN_MAX_CPU_ISA, or its former name with
    DNNL) counts for both. The set is empty on systems without /proc/cpuinfo.
    """
    path = PROC / "cpuinfo"
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    flags = frozenset(next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), ()))
    aten = os.environ.get("ATEN_CPU_CAPABILITY", "").lower()
    onednn = os.environ.get("ONEDNN_MAX_CPU_ISA", os.environ.get("DNNL_MAX_CPU_ISA", "")).upper()
    if aten in ("default", "avx2") or onednn.startswith(("SSE", "AVX2")) or onednn == "AVX":
        return frozenset(flag for flag in flags if not flag.startswith(("avx512", "amx")))
    if onednn.startswith(("AVX512_CORE", "AVX10_")) and "AMX" not in onednn:
        flags = frozenset(flag for flag in flags if not flag.startswith("amx"))
    if onednn in ("AVX512_CORE", "AVX512_CORE_VNNI"):
        return flags - {"avx512_bf16", "avx512_fp16"}
    return flags - {"avx512_fp16"} if onednn == "AVX512_CORE_BF16" else flags


def find_cpu_kind() -> Kind:
    """Return the kind of this machine's CPU."""
    features = find_cpu_features()
    if "amx_bf16" in features:
        return "amx"
    if "avx512f" in features:
        return "avx512"
    return "avx2" if "avx2" in features else "other"


def compute_total_bytes() -> int:
    """Return the memory in bytes that this process may use at most: the machine's or its container's limit."""
    paths = [group / name for group in _list_groups("memory") for name, _ in _MEMORY_FILES]
    limits = [limit for path in paths if (limit := _read_number(path)) is not None]
    return min([_read_meminfo("MemTotal") or _count_page_bytes(), *limits])


def compute_free_bytes() -> int:
    """Return the memory in bytes that is free now: the machine's, or what is left below the container's limit."""
    free = [_read_meminfo("MemAvailable") or _count_page_bytes() // 2]
    for group, names in itertools.product(_list_groups("memory"), _MEMORY_FILES):
        limit, usage = (_read_number(group / name) for name in names)
        if limit is not None and usage is not None:
            free.append(max(limit - usage, 0))
    return min(free)


def find_shared_bytes() -> int | None:
    """Return the free memory in bytes through which processes share tensors; None on systems without such a limit."""
    if not SHARED_MEMORY.is_dir():
        return None
    status = os.statvfs(SHARED_MEMORY)
    return status.f_bavail * status.f_frsize


def find_memory_mib() -> int:
    """Return the memory in MiB that this process may use at most."""
    return compute_total_bytes() // 2**20


def compute_cache_bytes() -> int:
    """Return the memory in bytes that data which could be read again may take: an eighth of the total."""
    return compute_total_bytes() // 8


def _read_meminfo(field: str) -> int | None:
    """Return a field of /proc/meminfo in bytes; None without such a file or field."""
    path = PROC / "meminfo"
    for line in path.read_text(encoding="ascii").splitlines() if path.is_file() else ():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    return None


def _count_page_bytes() -> int:
    """Return the machine's memory in bytes on systems without /proc."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _read_number(path: Path) -> int | None:
    """Return the number in a file; None if there is no such file, or it says "max"."""
    words = _read_words(path)
    return int(words[0]) if words and words[0].isdigit() else None


def _read_words(path: Path) -> list[str]:
    """Return the words of a small text file; none if there is no such file."""
    return path.read_text(encoding="ascii").split() if path.is_file() else []
