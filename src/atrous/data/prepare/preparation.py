"""Preparing a registered data set: what is in the sources is verified first, then written, one file after another."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atrous.core.errors import DataError, UsageError, note_on_stop
from atrous.core.files import atomic_path, remove_temporaries, save_text
from atrous.core.findings import shorten_list
from atrous.core.output_folder import hold_folder
from atrous.core.paths import require_existing
from atrous.core.records import Progress, ProgressCallback
from atrous.core.words import describe_count
from atrous.data.archives import Member, iter_members
from atrous.data.prepare.contracts import Contents, Layout, Plan, SourceFile, Taken

LARGEST_LIST_BYTES = 2**24


@dataclass(frozen=True)
class Preparation:
    """What was prepared.

    Args:
        name: Name of the data set.
        out: Its folder; None if nothing was to be written.
        splits: Number of images of each split.
        num_files: Files of the result.
        num_kept: Those of them that existed already.
        num_bytes: What the files have, as they are in the sources.
    """

    name: str
    out: Path | None
    splits: dict[str, int]
    num_files: int
    num_kept: int
    num_bytes: int

    def describe(self) -> str:
        """Return it in one line."""
        splits = ", ".join(f"{split} {count:,}" for split, count in self.splits.items())
        kept = f", {self.num_kept:,} of them existed" if self.num_kept else ""
        return f"{self.name}: {splits}; {describe_count(self.num_files, 'file')}, {self.num_bytes / 1e6:,.0f} MB{kept}"

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "name": self.name,
            "out": None if self.out is None else str(self.out),
            "splits": self.splits,
            "files": self.num_files,
            "kept": self.num_kept,
            "bytes": self.num_bytes,
        }


def prepare_dataset(
    name: str,
    layout: Layout,
    sources: Sequence[Path],
    out: Path,
    *,
    dry_run: bool = False,
    progress: ProgressCallback,
) -> Preparation:
    """Bring a data set from its archives or folders into the layout that its entry of `DATASETS` reads.

    Nothing is written before everything was found. Files that exist already are kept, so that a preparation that
    was interrupted continues; none is ever replaced.

    Args:
        name: Name of the data set.
        layout: What it has to hold.
        sources: Archives (.tar, .tar.gz, .tgz, .zip) and folders.
        out: The folder to write; what is in it has to be of the same data set.
        dry_run: Whether to write nothing.
        progress: Receives the progress.
    Raises:
        UsageError: There is no source, one is no archive or holds `out`, or `out` holds other files.
        DataError: A source does not exist or is damaged, or the data are not the official ones.
        MachineError: A package is missing, or the disk is full or refuses to be written.
    """
    if not sources:
        raise UsageError(f"no source of {name} given", f"Give the archives or folders. {layout.origin}.")
    _require_places(sources, out)
    contents = _read_contents(layout, sources, progress)
    plan = layout.plan(contents)
    if plan.problems:
        raise DataError(f"{name}: {'; '.join(plan.problems)}", f"Give all archives of the data set. {layout.origin}.")
    kept = _find_kept(plan, out)
    result = Preparation(
        name,
        None if dry_run else out,
        plan.splits,
        len(plan.files) + len(plan.texts),
        len(kept),
        sum(taken.file.size for taken in plan.files.values()),
    )
    if not dry_run:
        with hold_folder(out), note_on_stop(lambda _: "Run the same command again: it continues with what is missing."):
            _write_files(plan, sources, out, kept, progress)
    return result


def _require_places(sources: Sequence[Path], out: Path) -> None:
    for source in sources:
        require_existing(source)
        if out.resolve().is_relative_to(source.resolve()):
            raise UsageError(f"{out} is in {source}, which is read", "Choose another `out`.")
    if len({source.resolve() for source in sources}) < len(sources):
        raise UsageError("a source is given twice", "Give each once.")


def _read_contents(layout: Layout, sources: Sequence[Path], progress: ProgressCallback) -> Contents:
    """List the files of all sources, and read the lists among them."""
    form = re.compile(rf"(?:.*/)?{layout.lists}") if layout.lists else None
    files, texts = [], {}
    for source in sources:
        stage = f"reading {source.name}"
        count = 0
        for count, member in enumerate(iter_members(source), start=1):
            file = SourceFile(source, member.name, member.size)
            files.append(file)
            if form is not None and form.fullmatch(member.name):
                texts[file] = _read_text(member)
            progress(Progress(stage, count, None))
        progress(Progress(stage, count, count))
    return Contents(tuple(files), texts)


def _read_text(member: Member) -> str:
    place = f"{member.source}: {member.name}"
    if member.size > LARGEST_LIST_BYTES:
        raise DataError(f"{place}: {member.size:,} bytes are no list of images", "Get the archive again.")
    try:
        return member.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{place}: not UTF-8 text", "Get the archive again.") from error


def _find_kept(plan: Plan, out: Path) -> set[str]:
    """Return what of the result exists already.

    Raises:
        UsageError: The folder holds something else, or a file of another size.
    """
    if not out.is_dir():
        return set()
    files = [path for path in out.rglob("*") if not path.is_dir() and not path.name.startswith(".")]
    existing = {path.relative_to(out).as_posix(): path for path in files}
    other = sorted(existing.keys() - plan.files.keys() - plan.texts.keys())
    if other:
        raise UsageError(
            f"{out} holds {describe_count(len(other), 'other file')}: {shorten_list(other)}", "Choose another `out`."
        )
    changed = sorted(key for key, path in existing.items() if _differs(plan, key, path))
    if changed:
        count = describe_count(len(changed), "file")
        raise UsageError(f"{out}: {count} with another content: {shorten_list(changed)}", "Move it away.")
    return set(existing)


def _differs(plan: Plan, key: str, path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return True
    if key in plan.texts:
        return path.read_bytes() != plan.texts[key].encode()
    taken = plan.files[key]
    return taken.convert is None and path.stat().st_size != taken.file.size


def _write_files(plan: Plan, sources: Sequence[Path], out: Path, kept: set[str], progress: ProgressCallback) -> None:
    """Write what is missing, in the order of the sources; the lists come last, after all that they name."""
    wanted = {taken.file: (path, taken) for path, taken in plan.files.items() if path not in kept}
    for folder in {(out / path).parent for path in plan.files}:
        remove_temporaries(folder)
    total, done = len(wanted), 0
    for source in sources:
        if not any(file.source == source for file in wanted):
            continue
        for member in iter_members(source):
            path, taken = wanted.pop(SourceFile(source, member.name, member.size), ("", None))
            if taken is None:
                continue
            _write_file(member, taken, out / path)
            done += 1
            progress(Progress("writing", done, total))
    if wanted:
        raise DataError(f"{next(iter(wanted))} is gone", "Start again.")
    for path, text in plan.texts.items():
        if path not in kept:
            save_text(out / path, text)


def _write_file(member: Member, taken: Taken, target: Path) -> None:
    content = taken.convert(member.read()) if taken.convert is not None else None
    with atomic_path(target) as temporary, temporary.open("wb") as file:
        if content is None:
            member.copy_to(file)
        else:
            file.write(content)
