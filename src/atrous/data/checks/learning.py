"""Checks of what can be learnt: classes with little to learn from, and masks with little that is labelled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from atrous.core.findings import Finding, shorten_list
from atrous.core.words import describe_count, spell_command
from atrous.data.checks.survey import Survey

RARE_PIXELS = 1e-4
"""Share of all labelled pixels below which a class is rare."""
RARE_IMAGES, RARE_IMAGE_SHARE = 10, 0.01
"""A class in fewer images than this, and in a smaller share of all images, is rare too."""
VOID_SHARE = 0.9
"""Share of ignored pixels from which a mask is mostly void."""
VOID_SHARE_OF_ALL = 0.5
"""Share of ignored pixels in all masks of a split from which the data are mostly void."""


def check_rare_class(survey: Survey) -> Iterator[Finding]:
    """Find classes that have few pixels to be trained on, or are in few images."""
    if survey.train is None:
        return
    space, totals = survey.train.label_space, survey.train.sum_pixels()
    images = Counter(number for item in survey.train.items if item.mask for number in item.mask.counts)
    labelled, num_images = sum(totals.get(number, 0) for number in space.ids), len(survey.train.items)
    rare = [
        f"{name!r} (id {number}): {describe_count(totals[number], 'pixel')} in "
        + describe_count(images[number], "image")
        for name, number in zip(space.names, space.ids, strict=True)
        if number in totals
        and (
            totals[number] < RARE_PIXELS * labelled or images[number] < min(RARE_IMAGES, RARE_IMAGE_SHARE * num_images)
        )
    ]
    if rare:
        message = (
            f"{survey.train.name}: {describe_count(len(rare), 'class')} with little to learn from: {shorten_list(rare)}"
        )
        if survey.is_weighted:
            yield Finding("rare-class", "note", len(rare), f"{message}; rare classes weigh more in the loss")
            return
        fix = "Add images of them, leave them out, or weigh them higher: `class_weights=auto`."
        command = "atrous train DATA --class-weights auto".replace("DATA", spell_command([survey.source]))
        yield Finding("rare-class", "warning", len(rare), message, fix=fix, command=command)


def check_mostly_void(survey: Survey) -> Iterator[Finding]:
    """Find masks, and splits, most of whose pixels are ignored."""
    for split in survey.splits:
        ignored = split.label_space.ignored_ids
        lines, files = [], []
        void = total = 0
        for item in split.items:
            if item.mask is None or not item.mask.counts:
                continue
            num_void = sum(item.mask.counts.get(number, 0) for number in ignored)
            num_pixels = sum(item.mask.counts.values())
            void, total = void + num_void, total + num_pixels
            if num_void >= VOID_SHARE * num_pixels:
                files.append(item.mask_path or item.key)
                lines.append(f"{files[-1]} ({100 * num_void / num_pixels:.0f} %)")
        if void == total:
            continue  # which check_no_labelled_pixel says
        if void > VOID_SHARE_OF_ALL * total:
            message = f"{split.name}: {100 * void / total:.0f} % of all pixels have ignored ids"
            if survey.is_ignore_given:
                yield Finding(
                    "mostly-void", "note", max(1, len(files)), f"{message}, as data.ignore says", tuple(files)
                )
                continue
            fix = (
                "They are neither trained on nor scored. Look at some masks: if the ignored id shows what belongs to "
                "no class, map it to the id of a background in data.label_map; if it means 'unknown', name it."
            )
            settings = {"ignore": [*ignored]}
            yield Finding("mostly-void", "warning", max(1, len(files)), message, tuple(files), fix, settings)
        elif lines:
            message = (
                f"{split.name}: {describe_count(len(lines), 'mask')} nearly without a label: {shorten_list(lines)}"
            )
            fix = "Label more of these images, or leave them out."
            yield Finding("mostly-void", "warning", len(lines), message, tuple(files), fix, survey.exclude(files))
