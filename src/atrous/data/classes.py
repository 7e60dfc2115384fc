"""From class names to the label space of a data set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from atrous.core.errors import ConfigError
from atrous.core.labels import IGNORE_INDEX, LabelSpace, name_unnamed
from atrous.core.records import Note
from atrous.core.registry import describe_choices

LOWEST_HIGH = 100
"""Values from this on are seldom ids of classes beside 0 alone: they were chosen to be seen."""
Classes = Mapping[int, str] | Sequence[str] | None
"""Class names by id, or in the order of ids; None if they are not named."""


def name_classes(classes: Mapping[int, str] | Sequence[str], ignore: Sequence[int]) -> LabelSpace:
    """Build the label space of classes that the user named.

    Args:
        classes: Class names by id, or in the order of ids.
        ignore: Ids that are neither trained on nor scored.
    Raises:
        ConfigError: An id is both named and ignored.
    """
    names = dict(classes) if isinstance(classes, Mapping) else dict(enumerate(classes))
    for number in ignore:
        if number in names:
            rest = ", ".join(str(other) for other in ignore if other != number)
            raise ConfigError(
                f"data.classes names the id {number} {names[number]!r}, and data.ignore ignores it",
                f"To train {names[number]!r}, write ignore: [{rest}]; otherwise remove it from classes.",
            )
    ids = tuple(sorted(names))
    return LabelSpace(tuple(names[number] for number in ids), ids, ignored_ids=tuple(sorted(set(ignore))))


def find_classes(found: Iterable[int], ignore: Sequence[int]) -> LabelSpace:
    """Build the label space of masks whose classes are not named: one class per id, called "class 3".

    Args:
        found: Ids that occur in the masks; negative ones and those above 65534 can be no class.
        ignore: Ids that are neither trained on nor scored.
    """
    ids = sorted(number for number in {*found} - {*ignore} if 0 <= number < IGNORE_INDEX)
    return LabelSpace(tuple(map(name_unnamed, ids)), tuple(ids), ignored_ids=tuple(sorted(set(ignore))))


def find_background(space: LabelSpace) -> int:
    """Return the id of the class named background, or else 0.

    Raises:
        ConfigError: There is neither.
    """
    named = [number for name, number in zip(space.names, space.ids, strict=True) if name.lower() == "background"]
    if not named and 0 not in space.ids:
        raise ConfigError(
            "data.unlabelled is background, and no class is",
            f"Name a class background in data.classes; the classes are {', '.join(space.names)}.",
        )
    return named[0] if named else 0


def suggest_mapping(found: Iterable[int], ignore: Sequence[int]) -> str:
    """Return the settings for masks that hold 0 and one high id, a frequent mistake of beginners.

    Args:
        found: Ids that occur in the masks.
        ignore: Ids that are ignored.
    Returns:
        What to write, as text; empty for other masks.
    """
    ids = sorted(set(found))
    if len(ids) != 2 or ids[0] != 0 or ids[1] < LOWEST_HIGH:
        return ""
    rest = [number for number in ignore if number != ids[1]]
    without = f", ignore: {rest}" if ids[1] in ignore and list(ignore) != [ids[1]] else ""
    return (
        f"If {ids[1]} is an object, write label_map: {{{ids[1]}: 1}}, classes: [background, object]{without}; "
        f"if it means 'unknown', the masks hold no object."
    )


def select_classes(
    registered: LabelSpace, classes: Classes, ignore: Sequence[int], label_map: Mapping[int, int] | None = None
) -> tuple[LabelSpace, list[Note]]:
    """Keep some classes of a registered data set; the ids of the others become ignored.

    Args:
        registered: All classes of the data set.
        classes: Registered names to keep, or new names by registered id; None keeps all.
        ignore: Ids to ignore besides those that the data set ignores.
        label_map: The id that each of some numbers in the files is read as.

    Returns:
        The label space, in the registered order, and a sentence about the classes that were dropped.

    Raises:
        ConfigError: A name or an id is not registered.
    """
    names = dict(zip(registered.ids, registered.names, strict=True))
    if isinstance(classes, Mapping):
        unknown = [str(number) for number in classes if number not in names]
        if unknown:
            raise ConfigError(
                f"data.classes: the data set has no id {unknown[0]}", describe_choices("", [str(i) for i in names])
            )
        kept = dict(classes)
    elif classes is not None:
        for name in classes:
            if name not in registered.names:
                raise ConfigError(
                    f"data.classes: the data set has no class {name!r}", describe_choices(name, list(registered.names))
                )
        kept = {number: name for number, name in names.items() if name in classes}
    else:
        kept = names
    ids = tuple(number for number in registered.ids if number in kept and number not in ignore)
    if not ids:
        raise ConfigError("data.classes and data.ignore leave no class", f"Classes: {', '.join(registered.names)}.")
    dropped = [number for number in registered.ids if number not in ids]
    space = LabelSpace(
        tuple(kept[number] for number in ids),
        ids,
        tuple(registered.colours[registered.ids.index(number)] for number in ids),
        tuple(sorted({*registered.ignored_ids, *ignore, *dropped})),
    )
    unread = {*(label_map or {})} - {*(label_map or {}).values()}
    words = ", ".join(f"{number} {names[number]}" for number in dropped if number not in unread)
    message = f"not selected, so their pixels are ignored: {words}"
    return space, [Note("classes-not-selected", message)] if words else []
