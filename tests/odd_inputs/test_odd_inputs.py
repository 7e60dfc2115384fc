"""Odd inputs over all commands and public calls; what has to come of each is written beside it, in the tables."""

from __future__ import annotations

import re

import pytest

from atrous.core.errors import AtrousError
from odd_inputs import calls, data, environments, images, models, options
from odd_inputs.case import TEMPORARY, Place, carry_out, read_files

TABLES = {"images": images, "data": data, "options": options, "models": models, "environments": environments}
CASES = {f"{name}: {case.name}": case for name, table in TABLES.items() for case in table.CASES}
CALLS = {call.name: call for call in calls.CASES}
FEWEST = 120


def mark(cases):
    return [pytest.param(case, id=name, marks=() if case.quick else pytest.mark.slow) for name, case in cases.items()]


@pytest.fixture
def place(tmp_path, trained_run, shapes_folder):
    return Place(tmp_path / "place", trained_run, shapes_folder)


@pytest.mark.parametrize("case", mark(CASES))
def test_a_command_ends_as_it_should(case, place):
    reason = case.needs() if case.needs else ""
    if reason:
        pytest.skip(reason)
    place.path.mkdir()
    words = [str(word) for word in case.lay_out(place)]
    before = read_files(place.path)
    outcome = carry_out(case, words, place)
    report = f"{words}\n{outcome.text}"
    said = outcome.text.replace(str(place.path), "PLACE")  # whose name has digits of its own
    assert outcome.code in (case.code if isinstance(case.code, tuple) else (case.code,)), report
    for phrase in case.says:
        assert re.search(phrase, said), report
    for phrase in ("Traceback", *case.never_says):
        assert not re.search(phrase, said), report
    assert [pattern for pattern in case.makes if not list(place.path.glob(pattern))] == [], report
    assert [pattern for pattern in case.never_makes if list(place.path.glob(pattern))] == [], report
    after = read_files(place.path)
    kept = {name for name in before if not any(place.path.joinpath(name).match(pattern) for pattern in case.changes)}
    assert [name for name in kept if after.get(name) != before[name]] == [], report
    assert [name for name in after if TEMPORARY.fullmatch(name.rpartition("/")[2])] == [], report


@pytest.mark.parametrize("call", mark(CALLS))
def test_a_call_refuses_it_in_a_sentence(call, place, monkeypatch):
    place.path.mkdir()
    monkeypatch.chdir(place.path)
    with pytest.raises(call.error, match=f"(?s){call.says}") as caught:
        call.run(place)
    assert isinstance(caught.value, AtrousError)
    assert list(place.path.iterdir()) == []


def test_there_are_enough_of_them_and_their_names_are_distinct():
    cases = [*CASES.values(), *CALLS.values()]
    written = sum(len(table.CASES) for table in (*TABLES.values(), calls))
    assert len(cases) == written >= FEWEST
    assert sum(case.quick for case in cases) >= FEWEST // 3
