from __future__ import annotations

import pytest

from atrous.config.options import read_options
from atrous.core.errors import ConfigError


class Part:
    def __init__(self, channels: int, *, rates: tuple[int, ...] = (6,), share: float = 0.5, seed: int = 0) -> None: ...


def test_options_are_the_keyword_only_parameters_in_their_types():
    assert read_options(Part, {"rates": [1, 2], "share": 1}, "x") == {"rates": (1, 2), "share": 1.0}


def test_all_that_is_wrong_comes_in_one_message():
    with pytest.raises(ConfigError) as caught:
        read_options(Part, {"rate": 1, "share": "much", "channels": 3, "seed": 1}, "model.head", reserved=("seed",))
    lines = caught.value.message.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("model.head.rate: unknown option. Did you mean 'rates'? Allowed: rates, share.")
    assert lines[1].startswith("model.head.share: Input should be a valid number")
    assert all("unknown option" in line for line in lines[2:])


@pytest.mark.parametrize("given", [{"rates": [1, 10**30]}, {"share": -1e300}, {"share": float("inf")}, {"seed": 2**32}])
def test_numbers_at_which_libraries_overflow_are_refused(given):
    with pytest.raises(ConfigError, match=rf"x.{next(iter(given))}: .* is out of range; allowed: numbers up to 4,294"):
        read_options(Part, given, "x")
    assert read_options(Part, {"seed": 2**32 - 1}, "x") == {"seed": 2**32 - 1}
