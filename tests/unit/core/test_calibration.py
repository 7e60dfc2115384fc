from __future__ import annotations

import pytest

from atrous.core.calibration import Chosen


@pytest.mark.parametrize("value", [{"temperature": 0}, {"temperature": "inf"}, {"temperature": -1}, {"threshold": 2}])
def test_what_cannot_have_been_chosen_is_refused(value: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"temperature|threshold"):
        Chosen.from_json(value)
    assert Chosen.from_json({"temperature": 2.0, "later": 1}) == Chosen(2.0)
