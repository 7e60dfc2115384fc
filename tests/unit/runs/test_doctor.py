from __future__ import annotations

import json
import os
import re
from dataclasses import replace

import pytest

from atrous.cli.main import main
from atrous.runs import doctor
from atrous.runs.doctor import diagnose, find_findings
from atrous.runs.trials import Outcome, Part, list_parts

QUICK = ("device cpu", "backend torch", "weights lite0")


@pytest.fixture(scope="module")
def diagnosis():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(doctor, "list_parts", lambda: [part for part in list_parts() if part.name in QUICK])
        return diagnose()


def list_codes(diagnosis) -> set[str]:
    return {finding.code for finding in find_findings(diagnosis)}


def test_what_is_needed_works_and_is_measured(diagnosis):
    assert [part.state for part in diagnosis.parts] == ["works"] * 3
    speed = diagnosis.speed
    assert 0 < speed.network_gflops < 3 * speed.fp32_gflops
    assert 0 < speed.one_thread_gflops
    assert min(speed.copy_gb_per_s, speed.network_s, speed.jpegs_per_s) > 0
    assert (speed.bf16_gflops is None) == ("no-bf16" in list_codes(diagnosis))
    assert "part-fails" not in list_codes(diagnosis)


def test_nothing_in_a_report_names_the_user(monkeypatch, tmp_path):
    home = str(tmp_path / "some.one")
    monkeypatch.setenv("HOME", home)
    monkeypatch.setenv("ATROUS_DATA", f"{home}/data")

    def fail() -> str:
        raise OSError(f"{home}/.cache: no")

    parts = [Part("numpy", "all", fail), Part("x", "all", fail, ("missing" + re.sub(r"\W", "_", home),))]
    monkeypatch.setattr(doctor, "list_parts", lambda: parts)
    text = json.dumps(diagnose().to_json(), allow_nan=False)
    assert f"{home}/" not in text
    assert "~/.cache: no" in text
    assert "~/data" in text
    assert os.uname().nodename not in text


def test_what_the_command_line_chose_itself_is_no_setting_of_the_user(monkeypatch):
    for name, value in (("OMP_NUM_THREADS", "2"), ("ATROUS_THREADS", "2"), ("GOMP_SPINCOUNT", "7")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ATROUS_SPINCOUNT", "7, 20 microseconds, for a busy machine")
    assert not {"OMP_NUM_THREADS", "GOMP_SPINCOUNT"} & doctor._collect_settings().keys()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("GOMP_SPINCOUNT", "8")
    assert doctor._collect_settings().items() >= {"OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "8"}.items()


def change_speed(diagnosis, **fields):
    return replace(diagnosis, speed=replace(diagnosis.speed, **fields))


def change_part(diagnosis, **fields):
    given = {"name": "x", "serves": "x", "state": "works", "detail": "x", "remedy": "x", "is_optional": True}
    return replace(diagnosis, parts=(Outcome(**(given | fields)),))


def change_folders(diagnosis, **fields):
    return replace(diagnosis, folders=diagnosis.folders | fields)


CAUSES = {
    "little-shared-memory": (
        lambda found: change_folders(found, free_shared_mib=64),
        lambda found: change_folders(found, free_shared_mib=None),
    ),
    "little-disk": (
        lambda found: change_folders(found, free_here_mib=10),
        lambda found: change_folders(found, free_here_mib=10**6, free_temporary_mib=10**6),
    ),
    "no-cache-folder": (
        lambda found: change_folders(found, cache=None),
        lambda found: change_folders(found, cache="~/.cache/atrous", cache_is_temporary=False),
    ),
    "little-memory": (
        lambda found: replace(found, machine=found.machine | {"memory_mib": 2000}),
        lambda found: replace(found, machine=found.machine | {"memory_mib": 8000}),
    ),
    "fewer-threads": (
        lambda found: replace(change_speed(found, threads=2), machine=found.machine | {"cores": 8}),
        lambda found: replace(change_speed(found, threads=8), machine=found.machine | {"cores": 8}),
    ),
    "fewer-cores": (
        lambda found: replace(found, machine=found.machine | {"cores": 2, "cores_of_machine": 64}),
        lambda found: replace(found, machine=found.machine | {"cores": 2, "cores_of_machine": 2}),
    ),
    "busy": (
        lambda found: replace(found, machine=found.machine | {"cores_of_machine": 4, "load": [3.0, 0, 0]}),
        lambda found: replace(found, machine=found.machine | {"cores_of_machine": 4, "load": [0.5, 9, 9]}),
    ),
    "shared-cores": (
        lambda found: replace(
            change_speed(found, threads=4, fp32_gflops=150.0, one_thread_gflops=100.0),
            machine=found.machine | {"load": None},
        ),
        lambda found: change_speed(found, threads=4, fp32_gflops=350.0, one_thread_gflops=100.0),
    ),
    "limited-instructions": (
        lambda found: replace(found, settings={"ATEN_CPU_CAPABILITY": "avx2"}),
        lambda found: replace(found, settings={}),
    ),
    "no-bf16": (
        lambda found: change_speed(found, bf16_gflops=None),
        lambda found: change_speed(found, bf16_gflops=400.0),
    ),
    "slow-labels": (
        lambda found: change_part(found, name="numba", state="missing"),
        lambda found: change_part(found, name="numba"),
    ),
    "slow-png": (
        lambda found: change_part(found, name="zlib-ng", state="missing"),
        lambda found: change_part(found, name="zlib-ng"),
    ),
    "part-fails": (
        lambda found: change_part(found, state="fails"),
        lambda found: change_part(found, state="missing"),
    ),
}
"""For each finding a diagnosis that has its cause, and one that has not."""


@pytest.mark.parametrize("code", CAUSES)
def test_a_finding_is_there_if_and_only_if_its_cause_is(diagnosis, code):
    with_cause, without = (change(diagnosis) for change in CAUSES[code])
    assert code in list_codes(with_cause)
    assert code not in list_codes(without)


def test_every_finding_has_its_cause_tested(diagnosis):
    """Whatever is found in the diagnoses of all causes has a row of its own."""
    of_this_machine = {"two-opencv", "gpu-not-used"}  # they ask the installation itself
    found = {code for cause, _ in CAUSES.values() for code in list_codes(cause(diagnosis))}
    assert found - of_this_machine == set(CAUSES)


@pytest.mark.parametrize(("is_optional", "severity"), [(False, "error"), (True, "warning")])
def test_a_part_that_is_needed_is_an_error(diagnosis, is_optional, severity):
    changed = change_part(diagnosis, state="fails", is_optional=is_optional, detail="broken", remedy="pip install it")
    finding = next(each for each in find_findings(changed) if each.code == "part-fails")
    assert (finding.severity, finding.fix) == (severity, "pip install it")
    assert "broken" in finding.message


def test_a_cpu_that_computes_wrongly_is_an_error_of_the_machine(monkeypatch, capsys):
    monkeypatch.setattr("atrous.runs.trials.LARGEST_DEVICE_DIFFERENCE", 0.0)
    monkeypatch.setattr(doctor, "list_parts", lambda: [part for part in list_parts() if part.name == "device cpu"])
    assert main(["doctor", "--json", "--quiet"]) == 5
    found = json.loads(capsys.readouterr().out)
    assert found["parts"][0]["state"] == "fails"
    assert found["findings"][0]["severity"] == "error"


@pytest.mark.slow
def test_the_command_tries_everything(capsys):
    assert main(["doctor"]) in (0, 1)
    printed = capsys.readouterr().out
    for part in list_parts():
        assert part.name in printed
    assert "GFLOP/s" in printed


def test_what_is_not_known_of_a_machine_is_printed_as_unknown(diagnosis, monkeypatch, capsys):
    unknown = dict.fromkeys(("processor", "system", "cores", "cores_of_machine", "memory_mib"))
    changed = replace(diagnosis, machine=diagnosis.machine | unknown, findings=())
    monkeypatch.setattr("atrous.runs.doctor.diagnose", lambda progress: changed)
    assert main(["doctor", "--quiet"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "unknown, unknown: unknown cores of unknown, " in text
    assert "unknown MiB of memory (" in text


def test_a_system_that_tells_no_load_is_described_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> tuple[float, float, float]:
        raise OSError("no load average")

    monkeypatch.setattr(os, "getloadavg", fail)
    assert doctor._describe_machine()["load"] is None
    monkeypatch.delattr(os, "getloadavg")
    assert doctor._describe_machine()["load"] is None
