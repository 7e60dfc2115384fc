"""What a run reports while it trains: progress, log.txt, a row of metrics.csv per validation, trackers."""

from __future__ import annotations

import csv
import io
import itertools
import traceback
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType

from atrous.core.errors import AtrousError
from atrous.core.files import save_text
from atrous.core.records import MessageCallback, Note, NoteCollector, Progress, ProgressCallback
from atrous.core.run_folder import RunFolder
from atrous.core.system_errors import describe_shortage, describe_write_error
from atrous.training.trackers import Trackers
from atrous.training.world import is_lost_connection

Row = dict[str, float | int | str | None]


class Journal:
    """Writes the records of a run into its folder and forwards messages and progress to the caller.

    Until `begin` nothing is written: a training that cannot start leaves no file.

    It is a context manager: the trackers are closed however the block ends, with status "failed" after an exception.

    Args:
        run: The run's folder.
        notes: What was assumed and found before the training; log.txt begins with it.
        is_writer: Whether this process writes files; one process of a training does.
        on_message: Receives messages about automatic choices and findings.
        progress: Receives the progress.
    """

    def __init__(
        self,
        run: RunFolder,
        *,
        notes: Iterable[Note] = (),
        is_writer: bool = True,
        on_message: MessageCallback | None = None,
        progress: ProgressCallback | None = None,
    ) -> None:
        self.run = run
        self.rows: list[Row] = []
        self._is_writer = is_writer
        self._forward = NoteCollector(on_message)
        self._progress = progress
        self.trackers = Trackers(self.log)
        self._lines: list[str] = []
        self._has_begun = False
        for note in notes:  # the caller has sent them already
            self._forward.notes.append(note)
            self._write(note)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            with suppress(AtrousError):  # such as the full disk that is the reason
                self._write(f"stopped: {_describe_end(error)}")
        interrupted = isinstance(error, KeyboardInterrupt)
        with suppress(*([AtrousError] if error else [])):  # the first error counts
            self.trackers.close("success" if error is None else "aborted" if interrupted else "failed")

    @property
    def notes(self) -> tuple[Note, ...]:
        """The notes so far."""
        return tuple(self._forward.notes)

    def log(self, text: str) -> None:
        """Forward a sentence and append it to log.txt, which is written from `begin` on.

        Raises:
            MachineError: The disk is full, or the user may not write there.
        """
        self._write(text)
        self._forward(text)

    def begin(self) -> None:
        """Write log.txt from now on, with the lines so far."""
        self._has_begun = True
        self._flush()

    def _write(self, text: str) -> None:
        self._lines.append(text)
        if self._has_begun:
            self._flush()

    def _flush(self) -> None:
        if not self._is_writer:
            return
        try:
            with self.run.log.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.writelines(f"{line}\n" for line in self._lines)
        except OSError as error:
            raise describe_write_error(error, self.run.log) from error
        self._lines.clear()

    def show(self, stage: str, done: int, total: int | None, note: str = "") -> None:
        """Forward the progress of a stage.

        Args:
            stage: Name of the stage, such as "training".
            done: Units finished.
            total: Units in all; None if unknown.
            note: Figures worth showing, such as "loss 0.41".
        """
        if self._progress is not None:
            self._progress(Progress(stage, done, total, note))

    def watch(self, stage: str) -> ProgressCallback:
        """Return a callback that forwards progress under the name of another stage."""
        return lambda at: self.show(stage, at.done, at.total, at.note)

    def add_row(self, row: Row) -> None:
        """Add a row to metrics.csv, which is rewritten as a whole."""
        self.rows.append(row)
        text = io.StringIO()
        columns = dict.fromkeys([*row, *itertools.chain.from_iterable(self.rows)])  # a resumed run may have others
        writer = csv.DictWriter(text, fieldnames=list(columns))
        writer.writeheader()
        writer.writerows(self.rows)
        if self._is_writer:
            save_text(self.run.curve, text.getvalue())


def _describe_end(error: BaseException) -> str:
    """Return why a training ended: an error that users may meet, or the trace of one that they may not."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if not isinstance(error, AtrousError) and is_lost_connection(error):
        return "another process of the training has ended"
    shortage = describe_shortage(error)
    known = shortage or error if isinstance(error, AtrousError) or shortage else None
    return str(known) if known else "".join(traceback.format_exception(error)).rstrip()
