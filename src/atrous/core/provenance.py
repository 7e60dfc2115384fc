"""What a result was made with: versions, source revision, machine, command line. No names of users or hosts.

What cannot be found out is missing or None: a result is worth more than the record of how it was made.
"""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from atrous.core.machine import count_usable_cores, find_cpu_kind, find_memory_mib

_PACKAGES = ("atrous", "torch", "torchvision", "lightning", "timm", "numpy", "opencv-python-headless", "pillow")

Found = TypeVar("Found")


def collect_provenance() -> dict[str, Any]:
    """Return versions, git state, machine and command line as strict JSON."""
    return {
        "versions": collect_versions(),
        "git": _try(find_git_state),
        "machine": describe_machine(),
        "command": _try(describe_command),
    }


def _try(find: Callable[[], Found]) -> Found | None:
    """Return what a function finds out about this system, or None if it cannot."""
    try:
        return find()
    except Exception:  # systems differ in more ways than can be listed here
        return None


def collect_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that numbers depend on; nothing is imported for it."""
    found = {name: _try(partial(metadata.version, name)) for name in _PACKAGES}
    return {"python": platform.python_version()} | {name: version for name, version in found.items() if version}


def find_git_state() -> dict[str, Any] | None:
    """Return the commit of the source and whether it was changed since; None where the source is no git checkout."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return None
    commit = _try(partial(_run_git, root, "rev-parse", "HEAD"))
    changes = _try(partial(_run_git, root, "status", "--porcelain", "--untracked-files=no"))
    if commit is None or changes is None:  # no git here, or no commit yet
        return None
    return {"commit": commit, "dirty": bool(changes)}


def _run_git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def describe_machine() -> dict[str, Any]:
    """Return processor, its kind, usable cores, usable memory in MiB and the operating system."""
    return {
        "processor": _try(_find_processor),
        "cpu_kind": _try(find_cpu_kind),
        "cores": _try(count_usable_cores),
        "memory_mib": _try(find_memory_mib),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _find_processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def describe_command() -> str:
    """Return the command line, with the home folder as ~ and the program without its folder."""
    arguments = [Path(sys.argv[0]).name, *sys.argv[1:]] if sys.argv else []
    home = os.path.expanduser("~")  # unlike Path.home it does not raise where no home folder is known
    return shlex.join(word.replace(home, "~") if len(home) > 1 else word for word in arguments)
