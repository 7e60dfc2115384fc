"""What an installation can do on this machine: its parts tried, its speed measured, and what is slow here and why."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from atrous.core.cache_folder import find_cache_folder
from atrous.core.findings import Finding
from atrous.core.install import describe_install
from atrous.core.machine import SHARED_MEMORY, compute_free_bytes, find_cpu_features, find_shared_bytes
from atrous.core.provenance import collect_versions, describe_machine, find_git_state
from atrous.core.records import Progress, ProgressCallback
from atrous.core.spinning import describe_spinning, list_chosen
from atrous.core.words import describe_count
from atrous.networks.device import count_threads, find_failure, list_device_kinds
from atrous.runs.trials import Outcome, list_parts, try_part
from atrous.scoring.speed import Speed, measure_speed

FEATURES = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
"""Instruction sets that change how fast networks run."""
LIMITS = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
"""Environment variables that keep PyTorch from instructions of the CPU."""
VARIABLES = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME"),
    *(*LIMITS, "CUDA_VISIBLE_DEVICES", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME"),
    *("ATROUS_DATA", "LD_PRELOAD"),
)
"""Environment variables that change what works or how fast."""
LEAST_MEMORY_MIB, LEAST_SHARED_MIB, LEAST_DISK_MIB = 4096, 256, 1024
"""Memory and shared memory of a small training with worker processes, and space for a run."""
BUSY_LOAD = 0.7
"""Programs at work in the last minute, for each core of the machine, from which on times are too long."""
LEAST_GAIN = 0.6
"""Of all threads over one, for each thread: below it the cores are shared with others, or are halves of one."""
GPU_FILE = Path("/proc/driver/nvidia/version")
"""What a driver of NVIDIA's GPUs makes."""
OPENCV = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
"""Distributions that install the same package, each over the other's files."""


@dataclass(frozen=True)
class Diagnosis:
    """What an installation can do on this machine.

    Args:
        versions: Of Python and the packages that numbers depend on.
        git: Commit of the source and whether it was changed; None without a git checkout.
        machine: Processor, cores, memory, instruction sets and load.
        settings: Environment variables that the user has set and that change what works or how fast.
        waiting: How threads that wait for each other wait.
        folders: The folder for what can be computed again, and free space in MiB.
        parts: The parts that were tried.
        speed: What was measured.
        findings: What is wrong or slow, errors first.
    """

    versions: dict[str, str]
    git: dict[str, Any] | None
    machine: dict[str, Any]
    settings: dict[str, str]
    waiting: str
    folders: dict[str, Any]
    parts: tuple[Outcome, ...]
    speed: Speed
    findings: tuple[Finding, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as strict JSON."""
        return asdict(self) | {"findings": [finding.to_json() for finding in self.findings]}


def diagnose(progress: ProgressCallback | None = None) -> Diagnosis:
    """Try every part, measure the speed, and say what is wrong or slow; takes about a minute on two cores.

    Args:
        progress: Receives the progress.
    """
    speed = measure_speed()  # first: what is tried may leave threads at work
    parts, outcomes = list_parts(), []
    for number, part in enumerate(parts):
        if progress is not None:
            progress(Progress("trying", number, len(parts), part.name))
        outcomes.append(_hide_paths(try_part(part)))
    if progress is not None:
        progress(Progress("trying", len(parts), len(parts)))
    found = Diagnosis(
        versions=collect_versions(),
        git=find_git_state(),
        machine=_describe_machine(),
        settings=_collect_settings(),
        waiting=describe_spinning(),
        folders=_describe_folders(),
        parts=tuple(outcomes),
        speed=speed,
        findings=(),
    )
    order = ("error", "warning", "note")
    return replace(
        found, findings=tuple(sorted(find_findings(found), key=lambda finding: order.index(finding.severity)))
    )


def _collect_settings() -> dict[str, str]:
    """Return the variables that count; those that the command line chose itself are no settings of its user."""
    chosen = list_chosen(os.environ)
    return {name: _hide_home(os.environ[name]) for name in VARIABLES if name in os.environ and name not in chosen}


def _find_load() -> tuple[float, float, float] | None:
    """Return the load of the last 1, 5 and 15 minutes; None where the system does not tell, as in some containers."""
    try:
        return os.getloadavg()
    except (AttributeError, OSError):  # there is no such function on Windows
        return None


def _describe_machine() -> dict[str, Any]:
    features, load = find_cpu_features(), _find_load()
    return describe_machine() | {
        "cores_of_machine": os.cpu_count(),
        "free_mib": compute_free_bytes() // 2**20,
        "features": [name for name in FEATURES if name in features],
        "devices": list(list_device_kinds()),
        "threads": count_threads(),
        "load": None if load is None else [round(each, 2) for each in load],
    }


def _describe_folders() -> dict[str, Any]:
    cache, shared = find_cache_folder(), find_shared_bytes()
    return {
        "cache": None if cache is None else _hide_home(str(cache)),
        "cache_is_temporary": cache is not None and Path(tempfile.gettempdir()) in cache.parents,
        "free_here_mib": shutil.disk_usage(Path.cwd()).free // 2**20,
        "free_temporary_mib": shutil.disk_usage(tempfile.gettempdir()).free // 2**20,
        "free_shared_mib": None if shared is None else shared // 2**20,
    }


def _hide_paths(outcome: Outcome) -> Outcome:
    return replace(outcome, detail=_hide_home(outcome.detail), remedy=_hide_home(outcome.remedy))


def _hide_home(text: str) -> str:
    home = os.path.expanduser("~")
    return text.replace(home, "~") if len(home) > 1 else text


def find_findings(found: Diagnosis) -> Iterator[Finding]:
    """Yield what is wrong or slow according to a diagnosis, whose own findings are not looked at."""
    yield from _find_failures(found.parts)
    yield from _find_shortages(found)
    yield from _find_slowness(found)


def _find_failures(parts: tuple[Outcome, ...]) -> Iterator[Finding]:
    """Yield what does not work. A package of an extra that is not installed is no fault."""
    for part in parts:
        if not part.is_optional and part.state != "works":
            yield Finding("part-fails", "error", 1, f"{part.name}: {part.detail}", fix=part.remedy)
        elif part.state == "fails":
            yield Finding("part-fails", "warning", 1, f"{part.name} ({part.serves}): {part.detail}", fix=part.remedy)
    installed = [name for name in OPENCV if importlib.util.find_spec("cv2") and _is_installed(name)]
    if len(installed) > 1:
        message = (
            f"{' and '.join(installed)} are installed: they are one package, and each overwrites the other's files"
        )
        command = f"pip uninstall -y {' '.join(installed)} && pip install opencv-python-headless"
        yield Finding("two-opencv", "warning", len(installed), message, command=command)
    if GPU_FILE.exists() and not torch.cuda.is_available():
        why = "this PyTorch is built without CUDA" if torch.version.cuda is None else "PyTorch cannot use it"
        fix = "Install the PyTorch that fits the driver: https://pytorch.org/get-started/locally/"
        yield Finding(
            "gpu-not-used",
            "warning",
            1,
            f"an NVIDIA driver is at work here, and {why}: {find_failure('cuda')}",
            fix=fix,
        )


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _find_shortages(found: Diagnosis) -> Iterator[Finding]:
    folders, memory_mib = found.folders, found.machine["memory_mib"]
    if memory_mib is not None and memory_mib < LEAST_MEMORY_MIB:
        message = f"{memory_mib:,} MiB of memory in all: a training with the default settings may not fit"
        yield Finding("little-memory", "warning", 1, message, fix="Train with a smaller `crop` or `batch`.")
    shared = folders["free_shared_mib"]
    if shared is not None and shared < LEAST_SHARED_MIB:
        message = f"{shared:,} MiB free in {SHARED_MEMORY}, through which worker processes pass on what they read"
        fix = "Start the container with `docker run --shm-size=1g`, or train with `workers=0`."
        yield Finding("little-shared-memory", "warning", 1, message, fix=fix)
    for key, where in (("free_here_mib", "this folder"), ("free_temporary_mib", tempfile.gettempdir())):
        if folders[key] < LEAST_DISK_MIB:
            message = f"{folders[key]:,} MiB free on the disk of {where}"
            yield Finding(
                "little-disk", "warning", 1, message, fix="Free some space, or write elsewhere: `out=FOLDER`."
            )
    if folders["cache"] is None or folders["cache_is_temporary"]:
        message = "no cache folder of the user's can be written: facts of files are found out again after a restart"
        fix = "Set XDG_CACHE_HOME to a folder that can be written."
        yield Finding("no-cache-folder", "note", 1, message, fix=fix)


def _find_slowness(found: Diagnosis) -> Iterator[Finding]:
    speed, machine = found.speed, found.machine
    usable, cores = machine["cores"] or 1, machine["cores_of_machine"] or 1
    threads = speed.threads
    if threads < usable:
        limits = [f"{name}={found.settings[name]}" for name in VARIABLES[:2] if name in found.settings]
        message = f"PyTorch has {describe_count(threads, 'thread')}, and {describe_count(usable, 'core')} can be used"
        fix = f"Unset {', '.join(limits)}." if limits else "Set OMP_NUM_THREADS to the number of cores."
        yield Finding("fewer-threads", "warning", 1, message, fix=fix)
    if usable < cores:
        message = f"this process may use {describe_count(usable, 'core')} of {cores}: an affinity or a quota"
        yield Finding("fewer-cores", "note", 1, message)
    gain = speed.fp32_gflops / speed.one_thread_gflops
    load = machine["load"][0] if machine["load"] else 0.0
    if load > BUSY_LOAD * cores:
        message = f"other programs are at work: a load of {load:g} on {describe_count(cores, 'core')}"
        yield Finding("busy", "note", 1, message, fix="Times measured now are too long; train when they have ended.")
    elif threads > 1 and gain < LEAST_GAIN * threads:
        message = f"matrices are multiplied {gain:.1f} times as fast by {describe_count(threads, 'thread')} as by one"
        fix = "The cores are shared with other machines or are halves of one: try OMP_NUM_THREADS with half as many."
        yield Finding("shared-cores", "note", 1, message, fix=fix)
    limits = [f"{name}={found.settings[name]}" for name in LIMITS if name in found.settings]
    if limits:
        message = f"{' and '.join(limits)}: PyTorch may not use all instructions of this CPU"
        yield Finding("limited-instructions", "warning", len(limits), message, fix="Unset the variable.")
    if speed.bf16_gflops is None:
        message = "this CPU has no instructions for bf16: everything is computed in fp32"
        yield Finding("no-bf16", "note", 1, message)
    missing = {part.name: part for part in found.parts if part.state == "missing"}
    if "numba" in missing:
        message = "numba is missing: labels, scores and DenseCRF take PyTorch's slower ways"
        yield Finding("slow-labels", "note", 1, message, command=describe_install("numba", "fast"))
    if "zlib-ng" in missing:
        message = "zlib-ng is missing: masks in PNG files are read more slowly"
        yield Finding("slow-png", "note", 1, message, command=describe_install("zlib-ng", "fast"))
