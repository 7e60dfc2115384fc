"""Labels as the files that the servers of benchmarks take."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from atrous.core.errors import UsageError
from atrous.core.findings import shorten_list
from atrous.core.labels import LabelSpace
from atrous.core.records import Progress, ProgressCallback
from atrous.core.registry import describe_choices
from atrous.core.words import describe_count
from atrous.data.datasets.cityscapes import CITYSCAPES
from atrous.data.datasets.voc import VOC
from atrous.images.decode import load_mask
from atrous.images.encode import save_index_image
from atrous.inference.folders.derived import DerivedFiles, LabelledFile
from atrous.inference.folders.inputs import ImageFile


@dataclass(frozen=True)
class Benchmark:
    """What a server takes.

    Args:
        space: The classes, by the ids that are wanted.
        form: Form of the names of its images, with the part that the result is named by.
        example: Such a name.
        file: Name of a result, below the folder, with that part as `{name}`.
        has_palette: Whether results have the colours of the classes as their palette; they are grey otherwise.
    """

    space: LabelSpace
    form: re.Pattern[str]
    example: str
    file: str
    has_palette: bool


BENCHMARKS = {
    "voc": Benchmark(
        VOC,
        re.compile(r"([0-9]{4}_[0-9]{6})"),
        "2008_000006",
        "results/VOC2012/Segmentation/comp6_test_cls/{name}.png",
        has_palette=True,
    ),
    "cityscapes": Benchmark(
        CITYSCAPES,
        re.compile(r"([a-z]+_[0-9]{6}_[0-9]{6})_leftImg8bit"),
        "berlin_000000_000019_leftImg8bit",
        "results/cityscapes/{name}_labelIds.png",
        has_palette=False,
    ),
}
"""Source: the development kit of VOC 2012, section 8; evalPixelLevelSemanticLabeling.py of cityscapesScripts."""


def require_benchmark(name: str) -> Benchmark:
    """Return what a server takes.

    Args:
        name: voc or cityscapes.
    Raises:
        UsageError: There is no such server.
    """
    if name not in BENCHMARKS:
        raise UsageError(f"there is no submission {name!r}", describe_choices(name, list(BENCHMARKS)))
    return BENCHMARKS[name]


def build_submission(
    name: str, files: Sequence[ImageFile], space: LabelSpace, min_confidence: float = 0.0
) -> DerivedFiles:
    """Return the files for a server.

    Args:
        name: voc or cityscapes.
        files: The images.
        space: The classes of the model.
        min_confidence: Pixels below it have no class.
    Raises:
        UsageError: There is no such server, pixels would have no class, the model has other classes, or an image is
            none of the benchmark's.
    """
    benchmark = require_benchmark(name)
    if min_confidence:
        raise UsageError(
            f"submission {name}: pixels below `min_confidence` have no class, and the server takes none without one",
            "Give one of the two.",
        )
    known = dict(zip(benchmark.space.ids, benchmark.space.names, strict=True))
    others = [
        f"{number} {text}" for number, text in zip(space.ids, space.names, strict=True) if known.get(number) != text
    ]
    if others:
        raise UsageError(
            f"submission {name}: the model has classes that are not the benchmark's: {shorten_list(others)}",
            f"Train it on {name}=PATH, which gives classes their official names and ids.",
        )
    odd = [file.path.name for file in files if benchmark.form.fullmatch(file.path.stem) is None]
    if odd:
        raise UsageError(
            f"submission {name}: {describe_count(len(odd), 'image')} of other names: {shorten_list(odd)}",
            f"Give images of the benchmark, such as {benchmark.example}.",
        )
    names = [_name_result(benchmark, file) for file in files]
    doubled = sorted({result for result in names if names.count(result) > 1}) if len(set(names)) < len(names) else []
    if doubled:
        raise UsageError(f"submission {name}: several images of one name: {shorten_list(doubled)}", "Give each once.")

    def save(labelled: Sequence[LabelledFile], folder: Path, progress: ProgressCallback | None) -> None:
        palette = benchmark.space if benchmark.has_palette else None
        for number, file in enumerate(labelled, start=1):
            save_index_image(folder / _name_result(benchmark, file.image), load_mask(file.labels), palette)
            if progress is not None:
                progress(Progress(f"writing submission {name}", number, len(labelled)))

    return DerivedFiles(f"submission {name}", names, save)


def _name_result(benchmark: Benchmark, file: ImageFile) -> str:
    found = benchmark.form.fullmatch(file.path.stem)
    return benchmark.file.format(name=found[1] if found else file.path.stem)
