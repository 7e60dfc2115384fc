from __future__ import annotations

import pickle
import re

import pytest

from atrous.core import errors
from atrous.core.errors import (
    AtrousError,
    ConfigError,
    DataError,
    MachineError,
    ModelFileError,
    OtherProcessFailed,
    TrainingDiverged,
    UsageError,
)


@pytest.mark.parametrize(
    ("kind", "exit_code", "builtin"),
    [
        (AtrousError, 70, Exception),
        (UsageError, 2, ValueError),
        (ConfigError, 2, ValueError),
        (DataError, 3, ValueError),
        (ModelFileError, 4, ValueError),
        (MachineError, 5, RuntimeError),
        (TrainingDiverged, 6, RuntimeError),
        (OtherProcessFailed, 7, RuntimeError),
    ],
)
def test_each_kind_has_its_exit_code_and_reads_as_two_lines(kind, exit_code, builtin):
    error = kind("masks/a.png holds id 7", "Name class 7, or ignore it.")
    assert kind.exit_code == exit_code
    assert isinstance(error, builtin)
    assert isinstance(error, AtrousError)
    assert str(error) == "masks/a.png holds id 7\nName class 7, or ignore it."


def test_without_a_hint_there_is_one_line():
    assert str(DataError("empty folder")) == "empty folder"


def test_an_error_travels_whole_between_processes():
    error = pickle.loads(pickle.dumps(DataError("message", "hint")))
    assert type(error) is DataError
    assert (error.message, error.hint) == ("message", "hint")


def test_the_tree_of_the_docstring_lists_every_class_with_its_exit_code():
    drawn = dict(re.findall(r"^\W*(\w+)  +(\d+) ", errors.__doc__, flags=re.MULTILINE))
    direct = AtrousError.__subclasses__()
    kinds = [AtrousError, *direct, *(kind for parent in direct for kind in parent.__subclasses__())]
    assert drawn == {kind.__name__: str(kind.exit_code) for kind in kinds if kind.__module__ == errors.__name__}


def test_only_skipped_work_ends_with_1():
    codes = [kind.exit_code for kind in AtrousError.__subclasses__()]
    assert errors.SKIPPED_EXIT_CODE == 1
    assert 1 not in [*codes, AtrousError.exit_code, errors.UNEXPECTED_EXIT_CODE]
