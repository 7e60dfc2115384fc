"""What a result was made with: versions, source revision, machine, command line. No names of users or hosts."""

from __future__ import annotations

import platform
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from atrous.core.machine import count_usable_cores, find_memory_mib

_PACKAGES = ("atrous", "torch", "torchvision", "lightning", "timm", "numpy", "opencv-python-headless", "pillow")


def collect_provenance() -> dict[str, Any]:
    """Return versions, git state, machine and command line as strict JSON."""
    return {
        "versions": collect_versions(),
        "git": find_git_state(),
        "machine": describe_machine(),
        "command": describe_command(),
    }


def collect_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that numbers depend on; nothing is imported for it."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def find_git_state() -> dict[str, Any] | None:
    """Return the commit of the source and whether it was changed since; None where the source is no git checkout."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return None
    try:
        commit = _run_git(root, "rev-parse", "HEAD")
        changes = _run_git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):  # no git here, or no commit yet
        return None
    return {"commit": commit, "dirty": bool(changes)}


def _run_git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def describe_machine() -> dict[str, Any]:
    """Return processor, usable cores, usable memory in MiB and the operating system."""
    return {
        "processor": _find_processor(),
        "cores": count_usable_cores(),
        "memory_mib": find_memory_mib(),
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
    home = str(Path.home())
    return shlex.join(word.replace(home, "~") if len(home) > 1 else word for word in arguments)
