"""Checks of the two splits of a run against each other."""

from __future__ import annotations

from collections.abc import Iterator

from atrous.core.findings import Finding, shorten_list
from atrous.core.words import describe_count
from atrous.data.checks.survey import Survey


def check_split_overlap(survey: Survey) -> Iterator[Finding]:
    """Find images of the validation data that are training images too, under whatever name."""
    if survey.train is None or survey.val is None:
        return
    trained = {item.digest: item for item in reversed(survey.train.items) if item.digest is not None}
    both = [(item, trained[item.digest]) for item in survey.val.items if item.digest in trained]
    if both:
        names = [(str(val.image_path or val.key), str(train.image_path or train.key)) for val, train in both]
        lines = [val if val == train else f"{val} is {train}" for val, train in names]
        yield Finding(
            "split-overlap",
            "error",
            len(both),
            f"{len(both):,} of the {describe_count(len(survey.val.items), 'image')} of {survey.val.name} "
            f"in {survey.train.name} too: {shorten_list(lines)}",
            tuple(val for val, _ in names),
            "The score would be that of training images: remove them from one of the two.",
        )
