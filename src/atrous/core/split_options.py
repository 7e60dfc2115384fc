"""Which images of some data are trained on and which are scored: the one list of these options."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Gt, Le, Lt, MinLen

from atrous.core.seeds import MAX_SEED

LIST_SUFFIXES = (".txt", ".csv")
"""Suffixes of files that list images."""
DEFAULT_TRAIN, DEFAULT_VAL = "train", "val"
"""Names of the splits where none are given."""
DEFAULT_SHARE = 0.2
"""Share of the images that is scored where data have no splits."""


@dataclass(frozen=True)
class SplitOptions:
    """Which images are trained on and which are scored."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "allow_inf_nan": False}

    train: Annotated[str, MinLen(1)] | None = field(
        default=None,
        metadata={
            "description": "Split to train on, or a file that lists its images (.txt, .csv). Default: train; all "
            "images but those in val where val is a file, or where there are no splits."
        },
    )
    val: Annotated[float, Gt(0), Lt(1)] | Annotated[str, MinLen(1)] | None = field(
        default=None,
        metadata={
            "description": "Split to score, a file, or a share of the images to hold out, such as 0.2. Default: val; "
            "0.2 without splits."
        },
    )
    seed: Annotated[int, Ge(0), Le(MAX_SEED)] = field(
        default=0, metadata={"description": "Seed of the choice where a share is held out."}
    )
    group: Annotated[str, MinLen(1)] | None = field(
        default=None,
        metadata={
            "description": 'Images whose names agree in the first group of this regular expression, such as "^(.+?)_", '
            "stay on one side."
        },
    )

    @property
    def train_name(self) -> str:
        """The name of the split to train on; that of a file is its own without suffix."""
        return DEFAULT_TRAIN if self.train is None else _name(self.train)

    @property
    def val_name(self) -> str:
        """The name of the split to score likewise; of a share it is the default."""
        return _name(self.val) if isinstance(self.val, str) else DEFAULT_VAL

    @property
    def share(self) -> float | None:
        """The share that is held out of the splits; None if it is a split or a list of its own, or not given."""
        return None if isinstance(self.val, str) else self.val

    @property
    def lists(self) -> tuple[str | None, str | None]:
        """The files that list the images of both sides; None for each that is no file."""
        train, val = (text if isinstance(text, str) and is_list(text) else None for text in (self.train, self.val))
        return train, val

    @property
    def is_divided(self) -> bool:
        """Whether the images are divided by lists or a share instead of taken from splits that exist."""
        return self.share is not None or any(self.lists)


DEFAULT_SPLIT = SplitOptions()
"""The splits train and val; of data without splits a share is held out."""


def is_list(text: str) -> bool:
    """Whether a name of a split is a file that lists its images."""
    return text.lower().endswith(LIST_SUFFIXES)


def _name(text: str) -> str:
    return text.replace("\\", "/").rpartition("/")[2].rpartition(".")[0] or text if is_list(text) else text
