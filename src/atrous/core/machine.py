"""What this machine has and may use: memory."""

from __future__ import annotations

import os
from pathlib import Path

USABLE_FRACTION = 0.6
"""Share of the free memory that a forward pass may take."""


_CGROUP_FILES = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def compute_free_bytes() -> int:
    """Return the memory that is free now: the lesser of the machine's and the container's."""
    free = [_read_machine_bytes()]
    for limit_file, usage_file in _CGROUP_FILES:
        limit, usage = _read_number(Path(limit_file)), _read_number(Path(usage_file))
        if limit is not None and usage is not None:
            free.append(max(limit - usage, 0))
    return min(free)


def _read_machine_bytes() -> int:
    table = Path("/proc/meminfo")
    if table.exists():
        for line in table.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _read_number(path: Path) -> int | None:
    """Read a file of one number; None where there is no such file, or it says "max"."""
    text = path.read_text(encoding="ascii").strip() if path.exists() else ""
    return int(text) if text.isdigit() else None
