from __future__ import annotations

import pytest

from atrous.core.comparison import Side


@pytest.mark.parametrize(
    ("mious", "words"), [((0.0, 0.5), "mIoU 0.0000 to 0.5000"), ((0.0, 0.0, None), "mIoU 0.0000 to 0.0000")]
)
def test_a_seed_that_scores_nothing_counts_among_the_seeds(mious: tuple[float | None, ...], words: str) -> None:
    assert words in Side("a0", ("a0", "a1"), mious).describe_seeds()
