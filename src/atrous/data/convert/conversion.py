"""Converting annotations to a folder of images and masks: which format, which ids, and one image after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from atrous.core.errors import DataError, UsageError, note_on_stop
from atrous.core.files import save_json
from atrous.core.findings import shorten_list
from atrous.core.labels import LabelSpace
from atrous.core.paths import require_existing
from atrous.core.records import Note, NoteCollector, Progress, ProgressCallback, send_message
from atrous.core.words import describe_count
from atrous.data import CONVERTERS
from atrous.data.archives import open_source
from atrous.data.convert.contracts import (
    BACKGROUND_NAMES,
    IGNORED_NAMES,
    AnnotatedImage,
    Annotations,
    Conversion,
    Converter,
    Problem,
    Request,
)
from atrous.data.convert.guess import guess_format
from atrous.data.convert.images import ImageFinder, split_name
from atrous.data.convert.painting import Painter
from atrous.data.facts import iter_threads
from atrous.data.writing import open_folder_writer, require_empty

_SPLIT_NAMES = {"valid": "val", "validation": "val", "training": "train"}
RECORD_NAME = "conversion.json"
"""Name of the file in a converted folder that says what was done, with every problem."""


@dataclass(frozen=True)
class ConversionOptions:
    """How annotations are converted.

    Args:
        from_format: A name of `CONVERTERS`. Default: guessed from the files.
        images: Folder of the images, if they are not in the source.
        classes: Names by id, or in the order of ids, from 1 or from a name such as "background" that is 0. Annotations
            of other classes are problems. Default: all classes that the source uses.
        line_width: Width in pixels of lines, from 1 to 1,000; no format stores one.
        dry_run: Whether to write nothing.
    """

    from_format: str | None = None
    images: Path | None = None
    classes: Mapping[int, str] | Sequence[str] | None = None
    line_width: int = 10
    dry_run: bool = False


def convert_annotations(
    source: Path, out: Path, options: ConversionOptions, progress: ProgressCallback, on_message: NoteCollector
) -> Conversion:
    """Convert what a labelling tool has exported to a folder of images and masks with an atrous.yaml.

    Args:
        source: The file or the folder that the tool has written, or an archive of it.
        out: The folder to write, which must be empty or not exist.
        options: How.
        progress: Receives the progress.
        on_message: Receives messages about automatic choices.
    Returns: What was done.
    Raises:
        UsageError: There is no such format, it cannot be guessed, `out` is not empty or is the source, or an
            argument is out of its range.
        DataError: There is no such source, or nothing in it can be converted.
        MachineError: The disk is full or refuses to be written.
    """
    _require_places(source, out, options.images)
    if not 1 <= options.line_width <= 1000:
        raise UsageError(f"line_width is {options.line_width}", "Allowed: 1 to 1000 pixels.")
    problems: list[Problem] = []

    def report(problem: Problem) -> None:
        file, message = (text.replace(str(opened), str(source)) for text in (problem.file, problem.message))
        problems.append(Problem(problem.code, file, message))

    with open_source(source) as opened, ExitStack() as stack:
        name = options.from_format or guess_format(opened)
        converter: Converter = CONVERTERS.load(name)
        if options.from_format is None:
            send_message(on_message, Note("format", f"{source}: read as {name}, {converter.holds}"))
        root = opened if opened.is_dir() else opened.parent
        finder = ImageFinder([root] if options.images is None else [options.images, root])
        given = None if options.classes is None else number_given(options.classes)
        names = tuple(name for number, name in sorted((given or {}).items()) if number)
        annotations = converter.read(Request(opened, finder, options.line_width, names, report, progress))
        if not annotations.images:
            raise _describe_nothing(source, converter, problems)
        space, ids = assign_ids(annotations, given)
        for note in annotations.notes:
            send_message(on_message, note)
        writer = None
        if not options.dry_run:
            stack.enter_context(note_on_stop(lambda _: f"{out} is not complete: remove it before the next try."))
            writer = stack.enter_context(open_folder_writer(out, space))
        painter = Painter(annotations.smaller_on_top, ids, space, writer)
        counts = _convert_images(painter, annotations, finder, report, progress)
        if not counts.images:
            raise _describe_nothing(source, converter, problems)
        kept = space if given is not None else keep_used(space, counts.pixels)
        for note in counts.describe(space, kept, smaller_on_top=annotations.smaller_on_top):
            send_message(on_message, note)
        result = Conversion(
            name,
            None if options.dry_run else out,
            counts.images,
            kept,
            dict(sorted(counts.pixels.items())),
            counts.overlapping_px,
            tuple(problems),
            tuple(on_message.notes),
        )
        if writer is not None:
            writer.write_settings(kept, f"Converted from {name} by atrous.")
            save_json(out / RECORD_NAME, result.to_json() | {"source": str(source)})
    return result


def number_given(classes: Mapping[int, str] | Sequence[str]) -> dict[int, str]:
    """Return the classes that the user named, by id, background included.

    Args:
        classes: Names by id, or in the order of ids, from 1 or from a name such as "background" that is 0.
    """
    if isinstance(classes, Mapping):
        return {0: "background", **classes}
    first = 0 if classes and classes[0].lower() in BACKGROUND_NAMES else 1
    return {0: "background", **dict(enumerate(classes, start=first))}


def assign_ids(annotations: Annotations, given: Mapping[int, str] | None) -> tuple[LabelSpace, dict[str, int]]:
    """Give each class an id: 0 to background, and to others what the user or the source says.

    Args:
        annotations: What the source holds.
        given: Names by id, if the user named the classes.
    Returns:
        The classes, and the id of each label, also of those that mean background or are ignored.
    Raises:
        UsageError: The given names are not distinct, or an id is not from 0 to 65534.
    """
    names = dict(sorted({0: "background", **(number_classes(annotations) if given is None else given)}.items()))
    try:
        space = LabelSpace(tuple(names.values()), tuple(names), ignored_ids=())
    except DataError as error:
        raise UsageError(f"classes: {error.message}", "Give each class a name and an id of its own.") from error
    labels = {region.label for image in annotations.images for region in image.regions} | {*annotations.names}
    ids = {label: 0 for label in labels if label.lower() in BACKGROUND_NAMES}
    ids |= {label: space.void_id for label in labels if label.lower() in IGNORED_NAMES}
    return space, ids | {name: number for number, name in names.items()}


def keep_used(space: LabelSpace, pixels: Mapping[int, int]) -> LabelSpace:
    """Return the classes that have pixels: a training refuses a named class that has none.

    Args:
        space: All classes.
        pixels: Pixels of each id.
    """
    kept = [index for index, number in enumerate(space.ids) if pixels.get(number)]
    return LabelSpace(
        tuple(space.names[index] for index in kept),
        tuple(space.ids[index] for index in kept),
        tuple(space.colours[index] for index in kept),
        ignored_ids=(),
    )


def number_classes(annotations: Annotations) -> dict[int, str]:
    """Return the classes that a source names by id, those that it does not use included."""
    special = BACKGROUND_NAMES | IGNORED_NAMES
    if annotations.classes is not None:
        return {number: name for number, name in annotations.classes.items() if name.lower() not in special}
    named = [name for name in dict.fromkeys(annotations.names) if name.lower() not in special]
    free = (number for number in range(1, 65535) if number != 255 or len(named) > 254)
    return dict(zip(free, named, strict=False))


@dataclass
class _Counts:
    images: int = 0
    overlapping_px: int = 0
    overlapping_images: int = 0
    empty: int = 0
    pixels: dict[int, int] = field(default_factory=dict)

    def describe(self, space: LabelSpace, kept: LabelSpace, *, smaller_on_top: bool) -> Iterable[Note]:
        if unused := [
            repr(name) for number, name in zip(space.ids, space.names, strict=True) if number not in kept.ids
        ]:
            message = f"{describe_count(len(unused), 'class')} without a pixel dropped: {shorten_list(unused)}"
            yield Note("unused-classes", message)
        if self.overlapping_px:
            rule = "the smaller object is on top" if smaller_on_top else "later annotations are on top"
            where = describe_count(self.overlapping_images, "image")
            message = f"{describe_count(self.overlapping_px, 'pixel')} in {where} are in several classes: {rule}"
            yield Note("overlapping-pixels", message)
        if self.empty:
            message = f"{describe_count(self.empty, 'image')} without annotations: all background"
            yield Note("images-without-annotations", message)


def _convert_images(
    painter: Painter,
    annotations: Annotations,
    finder: ImageFinder,
    report: Callable[[Problem], None],
    progress: ProgressCallback,
) -> _Counts:
    counts = _Counts()
    items = _drop_strangers(_shorten_keys(annotations.images), finder, report)
    items = _drop_doubles(items, report)
    for number, (item, painted) in enumerate(zip(items, iter_threads(painter.convert, items), strict=True), start=1):
        for problem in painted.problems:
            report(problem)
        counts.images += painted.is_done
        counts.empty += painted.is_done and not item.regions and item.read_mask is None
        counts.overlapping_px += painted.overlapping_px
        counts.overlapping_images += painted.overlapping_px > 0
        for class_id, count in painted.counts.items():
            counts.pixels[class_id] = counts.pixels.get(class_id, 0) + count
        progress(Progress("converting", number, len(items)))
    return counts


def _shorten_keys(items: Sequence[AnnotatedImage]) -> list[AnnotatedImage]:
    """Remove folders that all images are in at the same depth, and name splits as `atrous train` does."""
    parts = [item.key.split("/") for item in items]
    depth = 0
    while all(len(own) > depth + 1 for own in parts):
        if len({own[depth] for own in parts}) == 1:
            parts = [own[:depth] + own[depth + 1 :] for own in parts]
        else:
            depth += 1
    keys = ["/".join([_SPLIT_NAMES.get(first, first) if rest else first, *rest]) for first, *rest in parts]
    return [replace(item, key=key) for item, key in zip(items, keys, strict=True)]


def _drop_strangers(
    items: Sequence[AnnotatedImage], finder: ImageFinder, report: Callable[[Problem], None]
) -> list[AnnotatedImage]:
    """Return the items without those whose own image is missing, so that another one of its name was found."""
    names: dict[Path, dict[tuple[str, ...], int]] = {}
    for item in items:
        if isinstance(item.image, Path):
            own = names.setdefault(item.image, {})
            own[tuple(split_name(item.name))] = finder.rate(item.image, item.name)
    kept = []
    for item in items:
        rates = names[item.image] if isinstance(item.image, Path) else {(): 0}
        best = [name for name, rate in rates.items() if rate == max(rates.values())]
        if len(rates) == 1 or best == [tuple(split_name(item.name))]:
            kept.append(item)
        else:
            message = (
                f"there is no image {item.name[-100:]!r}: {item.image} may be that of {'/'.join(best[0])[-100:]!r}"
            )
            report(Problem("missing-image", item.source, message))
    return kept


def _drop_doubles(items: Sequence[AnnotatedImage], report: Callable[[Problem], None]) -> list[AnnotatedImage]:
    """Return the items without those that would have the name of an earlier one."""
    kept: dict[str, AnnotatedImage] = {}
    for item in items:
        first = kept.setdefault(item.key.lower(), item)  # file systems may not tell cases apart
        if first is not item:
            message = f"a second image named {item.key}, after that of {first.source}"
            report(Problem("duplicate-name", item.source, message))
    return list(kept.values())


def _describe_nothing(source: Path, converter: Converter, problems: Sequence[Problem]) -> DataError:
    if not problems:
        return DataError(f"{source}: nothing to convert", f"Expected: {converter.holds}.")
    first = f"{describe_count(len(problems), 'problem')}, the first: {problems[0]}"
    hint = "Give the folder that holds the images: `images=PATH`." if problems[0].code == "missing-image" else ""
    return DataError(f"{source}: no image can be converted; {first}", hint or f"Expected: {converter.holds}.")


def _require_places(source: Path, out: Path, images: Path | None) -> None:
    for place in (source, images):
        if place is not None:
            require_existing(place)
    if images is not None and not images.is_dir():
        raise UsageError(f"{images} is no folder", "Give the folder that holds the images.")
    if source.is_dir() and out.resolve() == source.resolve():
        raise UsageError(f"{out} is the source", "Choose another `out`.")
    require_empty(out)
