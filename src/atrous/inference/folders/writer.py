"""Labelling many files into a folder: their names, what was done, what was skipped."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atrous.core.errors import DataError, UsageError, note_on_stop
from atrous.core.files import Stamp, read_stamp, remove_temporaries
from atrous.core.labels import LabelSpace
from atrous.core.launch import Processes
from atrous.core.machine import count_usable_cores
from atrous.core.output_folder import hold_folder
from atrous.core.provenance import collect_versions
from atrous.core.records import Note, Progress, ProgressCallback, list_notes
from atrous.core.registry import describe_choices
from atrous.core.system_errors import describe_write_error
from atrous.data import CONVERTERS, WRITTEN
from atrous.images.decode import HUGE_PX, is_huge_tiff
from atrous.images.extra_formats import MISSING_PACKAGE
from atrous.inference import HUGE_FORMATS
from atrous.inference.fastest import FastestBackend
from atrous.inference.folders.annotations import build_annotations
from atrous.inference.folders.areas import AREAS, build_areas
from atrous.inference.folders.derived import DerivedFiles, LabelledFile
from atrous.inference.folders.inputs import ImageFile, find_all_images, require_safe_output
from atrous.inference.folders.predict import iter_predictions
from atrous.inference.folders.prediction import OutputForm, Prediction, describe_files
from atrous.inference.folders.prefetch import MOST_THREADS
from atrous.inference.folders.record import FolderRecord
from atrous.inference.folders.submission import build_submission
from atrous.inference.labelling.labeller import Labeller
from atrous.inference.memory import LARGEST_WINDOW

OUTPUT_FORMATS = ("ids", "labels", "overlay", "confidence", AREAS, *CONVERTERS.find_tagged(WRITTEN))
DEFAULT_FORMATS = ("ids", "overlay")
"""Of images that are in memory as a whole; huge ones get ids."""
MEANING = {
    "labels": "<name>.png: each pixel value is a class id; of format ids grey, of format labels with a palette",
    "confidence": "<name>_confidence.png: 0 to 255 for probabilities 0 to 1 of the class given",
    "size": "height and width of the upright image: turned as its EXIF orientation says, as most viewers do",
}
"""How files are read, for predictions.json."""


@dataclass
class PredictionRecord:
    """What `save_predictions` did.

    Args:
        folder: Where the files are.
        done: A row an image that was labelled: input, files (below the folder), height, width, window, settings.
        skipped: A row a file that could not be read: input, reason.
        kept: A row an image that an earlier call had labelled with the same settings.
    """

    folder: Path
    done: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    kept: list[dict[str, Any]] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"PredictionRecord({self.describe()}, folder={str(self.folder)!r})"

    def describe(self) -> str:
        """Return the counts as text."""
        kept = f"{len(self.kept)} labelled earlier, " if self.kept else ""
        return f"{len(self.done)} labelled, {kept}{len(self.skipped)} skipped"

    def skip(self, file: ImageFile, error: DataError) -> None:
        """Record a file that could not be read.

        Args:
            file: The image.
            error: Why it was skipped.
        """
        reason = f"{error.message}: {error.hint}" if error.code == MISSING_PACKAGE else error.message
        self.skipped.append({"input": str(file.path.absolute()), "reason": reason})


def save_predictions(
    labeller: Labeller,
    sources: Sequence[str | Path],
    output: Path,
    *,
    formats: Sequence[str] | None = None,
    submission: str | None = None,
    probabilities: bool = False,
    min_confidence: float = 0.0,
    overwrite: bool = False,
    model_digest: str | None = None,
    notes: Sequence[Note] = (),
    progress: ProgressCallback | None = None,
    processes: Processes | None = None,
) -> PredictionRecord:
    """Label files, folders and globs into a folder, sub-folders mirrored, and write `predictions.json` beside them.

    Images are saved while the next ones are labelled. Files that cannot be read are skipped and recorded; an
    interruption leaves what is finished, recorded too, and the next call continues from there: an image is not labelled
    again if neither it nor the model and the settings have changed. TIFFs of more than `HUGE_PX` pixels come last, are
    never whole in memory, and get labels alone, as TIFF.

    Args:
        labeller: What labels.
        sources: Files, folders and globs.
        output: The folder.
        formats: Any of `OUTPUT_FORMATS`; labels are always written, as ids unless `labels` are asked for. Default: ids
            and overlay, of huge images ids. Annotations and areas are made of all labels at the end, also of those that
            are kept.
        submission: voc or cityscapes: what their servers take is written too, likewise.
        probabilities: Whether to write the probabilities of every class.
        min_confidence: Pixels below it, in [0, 1], get the id of void.
        overwrite: Whether to label all images again, and to replace files that atrous did not write there.
        model_digest: Tells models apart; None: all images are labelled again.
        notes: What was assumed and chosen, for predictions.json; read at the end, so that it may grow meanwhile.
        progress: Receives the progress.
        processes: Which share out the images; the first one keeps the record. Default: this one alone.
    Raises:
        UsageError: A source or a format does not exist, `min_confidence` is not in [0, 1], or above 0 beside a
            submission, two images share a name, the output folder is inside an input folder or in use, files there
            would be lost, or more than labels is asked of a model or an image that has labels alone.
        MachineError: A file cannot be written, memory is short, or the package that reads huge images is missing.
    """
    form = _choose_form(formats, probabilities=probabilities)
    labeller.require_confidence(confidence=form.confidence, probabilities=probabilities)
    labeller.require_min_confidence(min_confidence)
    files = find_all_images(sources)
    require_safe_output(sources, files, output, confidence=form.confidence)
    derived = _list_derived(formats, submission, files, labeller.label_space, min_confidence)
    huge = [file for file in files if is_huge_tiff(file.path)]
    if huge:
        asked = {"overlay": "overlay" in (formats or ()), "confidence": form.confidence, "probabilities": probabilities}
        asked |= {made.name: not made.takes_huge for made in derived}
        _require_labels_alone(labeller, huge[0], **asked)
        HUGE_FORMATS.load("tiff")  # fails now if its package is missing
    fastest = labeller.backend if isinstance(labeller.backend, FastestBackend) else None
    header = _describe_settings(labeller, form, min_confidence, model_digest, is_chosen=fastest is None)
    report, way = PredictionRecord(output), "run it again to continue"
    is_first = processes is None or processes.rank == 0
    with (
        hold_folder(output) if is_first else nullcontext(),
        note_on_stop(lambda error: f"{report.describe()} in {output}; {way}" * bool(report.done)),
    ):
        work = _Work(labeller, output, form, header, report, FolderRecord(output))
        names = {file: [f"{file.key}.tif"] if file in huge else form.list_names(file.key, file.path) for file in files}

        def begin() -> list[ImageFile]:
            for folder in {(output / file.key).parent for file in files} - {output}:
                remove_temporaries(folder)
            if not overwrite:
                work.record.require_free({"": [name for made in derived for name in made.names]})
            return work.find_left(names, overwrite=overwrite)

        left = begin() if processes is None else processes.share(begin)[processes.rank :: processes.size]
        # Before they are read: an image that changes while it is labelled is labelled again by the next call.
        work.stamps = {file.key: read_stamp(file.path) for file in left}
        if fastest is not None:
            fastest.expect(len(left))
        try:
            work.label_whole([file for file in left if file not in huge], len(files), min_confidence, progress)
            for file in left:
                if file in huge:
                    work.label_huge(file, min_confidence, progress)
                    work.tell(len(files), progress)
            if processes is not None:
                work.collect(processes)
            for made in derived if is_first else ():
                work.derive(made, files, progress)
        finally:
            if fastest is not None:
                earlier = None if report.done else work.record.backend  # of the images that are kept
                work.header["backend"] = earlier or fastest.describe()
            if is_first:
                work.save(notes)
    return report


class _Saving:
    """A prediction whose files another thread writes.

    An interruption may come while the thread starts, so that neither the pool nor its caller knows of it.

    Args:
        prediction: The prediction.
    """

    def __init__(self, prediction: Prediction) -> None:
        self.prediction = prediction
        self._future: Future[None] = Future()
        self._lock = threading.Lock()
        self._is_written = False
        self._is_settled = False

    def start(self, pool: ThreadPoolExecutor, folder: Path, form: OutputForm) -> None:
        """Let a thread write the files.

        Args:
            pool: The threads.
            folder: Where to.
            form: Which files.
        """
        self._future = pool.submit(self._write, folder, form)

    def _write(self, folder: Path, form: OutputForm) -> None:
        with self._lock:
            if not self._is_settled:
                self.prediction.write(folder, form)
                self._is_written = True

    def wait(self) -> None:
        """Wait for the files, and raise what kept them from being written."""
        self._future.result()

    def settle(self) -> bool:
        """Return whether the files exist, for good: what is being written is finished, and nothing is begun."""
        with self._lock:
            self._is_settled = True
            return self._is_written


@dataclass
class _Work:
    """Images on their way into a folder.

    Args:
        labeller: What labels.
        folder: The folder.
        form: Which files are written.
        header: Settings, as predictions.json has them.
        report: What has been done.
        record: What the folder holds.
    """

    labeller: Labeller
    folder: Path
    form: OutputForm
    header: dict[str, Any]
    report: PredictionRecord
    record: FolderRecord
    stamps: dict[str, Stamp | None] = field(default_factory=dict)

    def find_left(self, names: Mapping[ImageFile, list[str]], *, overwrite: bool) -> list[ImageFile]:
        """Return the images that have to be labelled, and refuse to lose files.

        Args:
            names: The files of each image's labels.
            overwrite: Whether to label all of them, and to replace whatever has their names.
        Raises:
            UsageError: Files would be lost.
        """
        settings = str(self.header["settings"])
        left = []
        for file in names:
            is_known = self.header["model_digest"] is not None and not overwrite
            row = self.record.find_done(names[file], file.path, settings) if is_known else None
            if row is None:
                left.append(file)
            else:
                self.report.kept.append(row)
        if not overwrite:
            self.record.require_free({str(file.path.absolute()): names[file] for file in left})
        return left

    def label_whole(
        self, files: Sequence[ImageFile], total: int, min_confidence: float, progress: ProgressCallback | None
    ) -> None:
        """Label images, each as a whole; they are saved while the next ones are labelled.

        Args:
            files: The images.
            total: Number of all images, for the progress.
            min_confidence: Pixels below it get the id of void.
            progress: Receives the progress.
        """
        pending: deque[_Saving] = deque()

        def finish() -> None:
            with _naming_the_file(self.folder / f"{pending[0].prediction.key}.png"):
                pending[0].wait()
            self.note(pending[0].prediction)
            pending.popleft()
            self.tell(total, progress)

        predictions = iter_predictions(
            self.labeller,
            files,
            confidence=self.form.confidence,
            probabilities=self.form.probabilities,
            min_confidence=min_confidence,
            skip=self.report.skip,
        )
        # The probabilities of every class take more memory than all else.
        most = 1 if self.form.probabilities else self.labeller.batch_size
        try:
            with ThreadPoolExecutor(max_workers=min(most, MOST_THREADS, count_usable_cores())) as pool:
                for prediction in predictions:
                    if len(pending) == most:
                        finish()
                    self.record.claim(self.form.list_names(prediction.key, prediction.source))
                    pending.append(_Saving(prediction))
                    pending[-1].start(pool, self.folder, self.form)
                while pending:
                    finish()
        finally:
            for saving in pending:  # after an interruption, which may have come between any two lines above
                if saving.settle():
                    self.note(saving.prediction)

    def label_huge(self, file: ImageFile, min_confidence: float, progress: ProgressCallback | None) -> None:
        """Label an image that is never whole in memory, and note it, be it done or skipped.

        Args:
            file: The image.
            min_confidence: Pixels below it get the id of void.
            progress: Receives the progress.
        """
        name = f"{file.key}.tif"
        label = HUGE_FORMATS.load("tiff")
        self.record.claim([name])
        try:
            with _naming_the_file(self.folder / name):
                *size, window = label(
                    self.labeller,
                    file.path,
                    self.folder / name,
                    palette=self.form.palette,
                    min_confidence=min_confidence,
                    progress=progress,
                )
        except DataError as error:
            self.report.skip(file, error)
        else:
            self.add(file.key, describe_files(file.path, [name], size, window))

    def derive(self, made: DerivedFiles, files: Sequence[ImageFile], progress: ProgressCallback | None) -> None:
        """Write files that are made of the labels of all images that have any.

        Args:
            made: The files.
            files: All images.
            progress: Receives the progress.
        """
        labelled = {row["files"][0] for row in (*self.report.done, *self.report.kept)}
        self.record.claim(made.names)
        pairs = [(file, f"{file.key}{suffix}") for file in files for suffix in (".png", ".tif")]
        own = [LabelledFile(file, self.folder / name) for file, name in pairs if name in labelled]
        made.save(own, self.folder, progress)
        self.record.add_files([name for name in made.names if (self.folder / name).exists()])

    def collect(self, processes: Processes) -> None:
        """Add to the report of the first process what the others have done.

        Args:
            processes: The processes, which have all done their part.
        """
        parts = processes.gather((self.report.done, self.report.skipped))
        for done, skipped in parts[1:] if processes.rank == 0 else ():
            self.report.done += done
            self.report.skipped += skipped

    def note(self, prediction: Prediction) -> None:
        """Record an image that was labelled, once."""
        latest = self.report.done[-1]["files"][0] if self.report.done else None
        names = self.form.list_names(prediction.key, prediction.source)
        if latest != names[0]:
            self.add(prediction.key, prediction.describe(names))

    def add(self, key: str, row: dict[str, Any]) -> None:
        """Record an image that was labelled, and remove its files of other settings.

        Args:
            key: What its files are called.
            row: What is known of it.
        """
        row |= {"settings": self.header["settings"], "input_stamp": self.stamps[key]}
        self.record.add(row)
        for path in self.record.list_outdated(row):
            path.unlink(missing_ok=True)
        self.report.done.append(row)

    def tell(self, total: int, progress: ProgressCallback | None) -> None:
        """Report the progress.

        Args:
            total: Number of all images.
            progress: Receives it.
        """
        if progress is not None:
            done = len(self.report.done) + len(self.report.kept) + len(self.report.skipped)
            progress(Progress("predicting", done, total))

    def save(self, notes: Sequence[Note]) -> None:
        """Write predictions.json.

        Args:
            notes: What was assumed and chosen now; what was for images that are kept stays.
        """
        before = self.record.notes if self.report.kept else []
        now = list_notes(notes)
        header = {**self.header, "notes": [*(note for note in before if note not in now), *now]}
        self.record.save(header, {row["input"]: row["reason"] for row in self.report.skipped})


def _describe_settings(
    labeller: Labeller, form: OutputForm, min_confidence: float, model_digest: str | None, *, is_chosen: bool
) -> dict[str, Any]:
    """Return what decides about the labels, as predictions.json has it, with a digest of all of it.

    Args:
        labeller: What labels.
        form: Which files are written.
        min_confidence: Pixels below it get the id of void.
        model_digest: Tells models apart.
        is_chosen: Whether the backend was chosen by name. Otherwise it may differ from call to call, and images that
            one of them labelled are not labelled again.
    """
    space = labeller.label_space
    classes = [
        {"name": name, "id": number, "colour": list(colour)}
        for name, number, colour in zip(space.names, space.ids, space.colours, strict=True)
    ]
    settings = {
        "atrous": collect_versions().get("atrous"),
        "model_digest": model_digest,
        "protocol": labeller.protocol.to_json() | ({} if is_chosen else {"backend": "auto"}),
        "classes": classes,
        "void_id": space.void_id if min_confidence > 0 else None,
        "min_confidence": min_confidence,
        "palette": form.palette,
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    return {"settings": digest, **settings, "meaning": MEANING}


def _choose_form(formats: Sequence[str] | None, *, probabilities: bool) -> OutputForm:
    for name in formats or ():
        if name not in OUTPUT_FORMATS:
            raise UsageError(f"there is no format {name!r}", describe_choices(str(name), list(OUTPUT_FORMATS)))
    chosen = DEFAULT_FORMATS if formats is None else formats
    if {"ids", "labels"} <= set(chosen):
        raise UsageError(
            "formats ids and labels are two forms of one file, <name>.png",
            "Choose ids, which every library reads as they are, or labels, which viewers show in colours.",
        )
    return OutputForm("labels" in chosen, "overlay" in chosen, "confidence" in chosen, probabilities)


def _list_derived(
    formats: Sequence[str] | None,
    submission: str | None,
    files: Sequence[ImageFile],
    space: LabelSpace,
    min_confidence: float,
) -> list[DerivedFiles]:
    """Return what is made of the labels of all images, at the end."""
    names = list(dict.fromkeys(formats or ()))
    found = [build_annotations(name, files, space) for name in names if name in CONVERTERS.find_tagged(WRITTEN)]
    found += [build_areas(space)] * (AREAS in names)
    if submission is not None:
        found.append(build_submission(submission, files, space, min_confidence))
    return found


def _require_labels_alone(labeller: Labeller, file: ImageFile, **wanted: bool) -> None:
    """Refuse what needs a whole image of a huge one, before anything is labelled."""
    asked = [name for name, is_wanted in wanted.items() if is_wanted]
    asked += ["DenseCRF"] * (labeller.crf is not None)
    asked += ["an exported file, which gives every pixel of a window at once,"] * labeller.backend.is_full_size
    asked += [f"a window of {labeller.protocol.window}"] * ((labeller.protocol.window or 0) > LARGEST_WINDOW)
    if asked:
        raise UsageError(
            f"{', '.join(asked)}: {file.path} has more than {HUGE_PX:,} pixels, and is never whole in memory",
            f"Ask for ids or labels alone, in windows up to {LARGEST_WINDOW}, or cut the image into smaller ones.",
        )


@contextmanager
def _naming_the_file(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise describe_write_error(error, path) from error
