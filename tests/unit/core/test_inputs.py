from __future__ import annotations

import pytest

from atrous.core.inputs import InputSpec


def test_satellite_bands_are_an_input_too():
    spec = InputSpec((0.1,) * 5, (0.2,) * 5, dtype="uint16", value_range=(0, 10_000), visible_bands=(3, 2, 1))
    assert spec.channels == 5


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mean": (0.5,), "std": (0.5, 0.5), "visible_bands": (0,)}, "one number per band"),
        ({"mean": (), "std": ()}, "one number per band"),
        ({"std": (0.1, 0.0, 0.1)}, "std above 0"),
        ({"value_range": (1.0, 1.0)}, "must rise"),
        ({"visible_bands": (0, 1)}, "one or three"),
        ({"visible_bands": (0, 1, 3)}, "of 0 to 2"),
    ],
)
def test_contradictions_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        InputSpec(**fields)
