"""Conversions between annotations and masks, both ways. No PyTorch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from atrous.config.load import load_config
from atrous.core.arguments import refuse_wrong_types
from atrous.core.errors import UsageError
from atrous.core.records import MessageCallback, ProgressCallback
from atrous.data.build import build_all_pairs
from atrous.data.convert.contracts import Conversion
from atrous.data.convert.conversion import ConversionOptions, convert_annotations
from atrous.data.convert.export import export_dataset, require_writer
from atrous.display.progress import open_call


@refuse_wrong_types
def convert(
    source: str | Path,
    out: str | Path,
    *,
    from_format: str | None = None,
    to_format: str | None = None,
    images: str | Path | None = None,
    classes: Mapping[int, str] | Sequence[str] | None = None,
    line_width: int = 10,
    dry_run: bool = False,
    progress: ProgressCallback | bool | None = None,
    on_message: MessageCallback | None = None,
) -> Conversion:
    """Convert what a labelling tool has exported to images and masks with an atrous.yaml, or masks to annotations.

    Background is the id 0, also where no annotation says so. What cannot be converted is listed in the result and in
    conversion.json in the folder, and the rest is converted: pixels of an unknown class are ignored, and an annotation
    that cannot be drawn leaves the pixels below it as they are.

    Args:
        source: The file or the folder that the tool has written, or an archive of it (.zip, .tar, .tgz);
            with `to_format` the data, as `train` takes them.
        out: The folder to write, which must be empty or not exist.
        from_format: Name of the format of the source. Default: guessed from the files.
        to_format: labelme, coco, cvat or geojson: masks become annotations, and images are copied beside them.
        images: Folder of the images, if they are not in `source`.
        classes: Names by id, or in the order of ids, from 1 or from a name such as "background" that is 0. Annotations
            of other classes are problems. Default: all classes that have pixels.
        line_width: Width in pixels of lines, from 1 to 1,000; no format stores one.
        dry_run: Whether to write nothing.
        progress: Receives the progress. Default: a bar on a terminal or in a notebook, a line now and then elsewhere;
            False shows nothing.
        on_message: Receives messages about automatic choices. Default: they are shown with the progress.
    Returns: What was done.
    Raises:
        UsageError: There is no such format, it cannot be guessed, `out` is not empty or is the source, or an argument
            is out of its range or has no effect.
        ConfigError: The atrous.yaml of data has a setting that is unknown or impossible.
        DataError: There is no such source, or nothing in it can be converted.
        MachineError: The disk is full or refuses to be written.
    """
    with open_call(progress, on_message) as display:
        if to_format is None:
            place = None if images is None else Path(images)
            options = ConversionOptions(from_format, place, classes, line_width, dry_run)
            return convert_annotations(Path(source), Path(out), options, display.progress, display.on_message)
        if from_format or images or classes or dry_run:
            given = {"from_format": from_format, "images": images, "classes": classes, "dry_run": dry_run}
            names = ", ".join(name for name, value in given.items() if value)
            raise UsageError(f"{names}: no effect on masks that become annotations", "Leave it out with `to_format`.")
        require_writer(to_format)
        dataset = build_all_pairs(load_config(options={"data.source": str(source)}).config.data, display.on_message)
        export_dataset(dataset, to_format, Path(out), display.progress)
        notes = tuple(display.on_message.notes)
        return Conversion(to_format, Path(out), len(dataset), dataset.label_space, {}, 0, notes=notes)
