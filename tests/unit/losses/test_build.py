from __future__ import annotations

import pytest

from atrous.core.errors import ConfigError
from atrous.losses.build import build_loss
from atrous.losses.ohem import OHEM


def test_options_reach_the_loss_in_their_types():
    assert build_loss("ohem", {"threshold": 1}) == OHEM(threshold=1.0)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("ohm", {}, "unknown loss 'ohm'\nDid you mean 'ohem'"),
        ("ohem", {"treshold": 0.5}, "training.loss_options.treshold: unknown option. Did you mean 'threshold'"),
        ("ohem", {"threshold": "low"}, "training.loss_options.threshold: Input should be a valid number"),
        (
            "cross_entropy",
            {"threshold": 0.5},
            "training.loss_options.threshold: unknown option. Allowed: label_smoothing",
        ),
    ],
)
def test_what_the_loss_does_not_have_is_refused(name, options, words):
    with pytest.raises(ConfigError) as caught:
        build_loss(name, options)
    assert words in str(caught.value)
