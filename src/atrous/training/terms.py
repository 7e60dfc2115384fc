"""The terms of use that a trained model keeps: those of its data, and of the model that it started from."""

from __future__ import annotations

from atrous.config.schema import Config
from atrous.core.data_source import PYTHON_SOURCE, TERMS
from atrous.core.records import Note
from atrous.core.run_folder import RunFolder
from atrous.data.build import find_source
from atrous.networks.model_card import is_model_file, read_card
from atrous.networks.model_source import read_terms


def list_terms(config: Config, run: RunFolder | None = None) -> tuple[str, ...]:
    """Return the terms of use of the data of a training, and of those of the model that it starts from.

    Args:
        config: All settings.
        run: The folder of a run that has begun, whose model has these terms where the one that it started from is no
            longer there.
    """
    source = config.data.source
    dataset = "" if source in (None, PYTHON_SOURCE) else find_source(config.data).dataset
    own = [TERMS[dataset]] if dataset in TERMS else []
    before = read_terms(config.model.weights)
    if before is None:
        before = read_card(run.model).data_terms if run is not None and is_model_file(run.model) else ()
    return tuple(dict.fromkeys((*before, *own)))


def describe_terms(terms: tuple[str, ...]) -> list[Note]:
    """Return the message about these terms at the start of a training; none if there are none."""
    message = f"terms of use of the data, which the model keeps: {'; '.join(terms)}"
    return [Note("data-terms", message)] if terms else []
