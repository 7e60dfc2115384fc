"""`atrous doctor`: what this installation can do on this machine, and what is slow and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from atrous.cli.inference_options import JsonOption, QuietOption
from atrous.core.words import describe_count

if TYPE_CHECKING:
    from rich.console import Console

    from atrous.runs.doctor import Diagnosis

_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}
_MACHINE = ("processor", "system", "cores_of_machine")
"""What may be unknown of a machine."""
_STATES = {"works": "green", "missing": "dim", "fails": "yellow"}


def run(quiet: QuietOption = False, json: JsonOption = False) -> int:
    """Find what fails or is slow on this machine, and why.

    Every part of the installation is run once, and the speed of the machine is measured. The exit code is 0 if
    all that is installed works, 1 with warnings, 5 if atrous cannot work here. Add the output of --json to a report of
    a fault: it names no user and no host.

    Example: atrous doctor
    """
    from atrous.cli.console import open_display, print_json, show_loading
    from atrous.core.errors import SKIPPED_EXIT_CODE, MachineError
    from atrous.display.console import build_console

    with open_display(quiet=quiet) as display:
        with show_loading(display):
            from atrous.runs.doctor import diagnose

        found = diagnose(display.progress)
    if json:
        print_json(found.to_json())
    else:
        _print(found, build_console())
    severities = {finding.severity for finding in found.findings}
    return MachineError.exit_code if "error" in severities else SKIPPED_EXIT_CODE if "warning" in severities else 0


def _print(found: Diagnosis, console: Console) -> None:
    from rich.text import Text

    from atrous.cli.console import spell_options

    machine, speed = found.machine, found.speed
    console.print(", ".join(f"{name} {version}" for name, version in found.versions.items()))
    known = {name: "unknown" if machine[name] is None else machine[name] for name in _MACHINE}
    cores = "unknown cores" if machine["cores"] is None else describe_count(machine["cores"], "core")
    memory = "unknown" if machine["memory_mib"] is None else f"{machine['memory_mib']:,}"
    console.print(
        f"{known['processor']}, {known['system']}: {cores} of {known['cores_of_machine']}, "
        f"{describe_count(machine['threads'], 'thread')}, {memory} MiB of memory ({machine['free_mib']:,} free), "
        f"{' '.join(machine['features']) or 'no instruction sets known'}"
    )
    console.print(", ".join(f"{name}={value}" for name, value in found.settings.items()) or "no environment variables")
    console.print(found.waiting)
    width = max(len(part.name) for part in found.parts)
    for part in found.parts:
        line = f" {part.name:<{width}}  {spell_options(part.detail)}"
        console.print(Text(f"{part.state:<7}", style=_STATES[part.state]) + line)
        if part.state == "missing":
            console.print(f"{'':<{width + 10}}{part.remedy}")
    share = speed.network_gflops / speed.fp32_gflops
    bf16 = "" if speed.bf16_gflops is None else f", {speed.bf16_gflops:,.0f} in bf16"
    console.print(
        f"speed: {speed.fp32_gflops:,.0f} GFLOP/s in fp32 with {describe_count(speed.threads, 'thread')} "
        f"({speed.one_thread_gflops:,.0f} with one){bf16}, memory {speed.copy_gb_per_s:.1f} GB/s, "
        f"{speed.jpegs_per_s:,.0f} JPEG photos of 500 x 375 a second and thread"
    )
    console.print(
        f"default network, 513 x 513, PyTorch, fp32: {1e3 * speed.network_s:.0f} ms, {speed.network_gflops:,.0f} "
        f"GFLOP/s, {share:.0%} of the rate of a matrix product"
    )
    for finding in found.findings:
        console.print(Text(finding.severity, style=_STYLES[finding.severity]) + f" {finding.code}: {finding.message}")
        for line in filter(None, (spell_options(finding.fix), finding.command)):
            console.print(f"  {line}")
    console.print(
        f"{sum(part.state == 'works' for part in found.parts)} of {describe_count(len(found.parts), 'part')} work"
    )
