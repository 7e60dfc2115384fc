"""The folder of a run: chosen, held while a training writes there, and checked before it does."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from atrous.config.schema import Config
from atrous.core.data_source import FOLDER, PYTHON_SOURCE, resolve_source
from atrous.core.errors import UsageError
from atrous.core.files import remove_temporaries
from atrous.core.findings import shorten_list
from atrous.core.output_folder import hold_folder, hold_numbered_folder, open_folder
from atrous.core.run_folder import RunFolder


@contextmanager
def hold_run(config: Config, resume: Path | None = None) -> Iterator[RunFolder]:
    """Hold the folder of a new run, or of a run to continue; a folder that stays empty is removed.

    Args:
        config: All settings.
        resume: The folder of a run to continue.
    Raises:
        UsageError: Another process writes there; or the folder of a new run holds another run, or there cannot be such
            a folder.
        MachineError: There is no permission to write there, or no space.
    """
    if resume is not None:
        run = RunFolder(resume)
        require_run(run)
        with hold_folder(run.path):
            for stage in run.iter_stages():
                remove_temporaries(stage.path)
            yield run
    elif config.output.folder is not None:
        run = RunFolder(Path(config.output.folder))
        with hold_folder(run.path):
            require_new(run)
            yield run
    else:
        with hold_numbered_folder(_name_folder(config)) as path:
            yield RunFolder(path)


def find_continued(resume: str | Path | None, extend: str | Path | None) -> Path | None:
    """Return the folder of the run to continue or to extend, if any.

    Args:
        resume: The folder of a run to continue.
        extend: The folder of a run to extend.
    Raises:
        UsageError: Both are given.
    """
    if resume is not None and extend is not None:
        raise UsageError("`resume` continues a run as it was planned, `extend` for longer", "Leave out one of them.")
    given = extend if resume is None else resume
    return None if given is None else Path(given)


def find_recipe(resume: Path | None, recipe: str | Path | None, out: str | Path | None) -> str | Path | None:
    """Return the settings of a run to continue or to extend, to be loaded as a recipe; of a new run its recipe.

    Args:
        resume: The folder of the run to continue or to extend, if any.
        recipe: A recipe that was given too, if any.
        out: A folder that was given too, if any.
    Raises:
        UsageError: There is no run to continue, or a recipe or a folder is given.
    """
    if resume is None:
        return recipe
    if recipe is not None or out is not None:
        raise UsageError(
            "a run that is continued keeps its recipe and its folder", "Leave out the recipe and the output folder."
        )
    run = RunFolder(resume)
    require_run(run)
    return run.config


def require_possible(folder: Path) -> None:
    """Refuse a folder in which no new run can be written, before anything slow.

    Raises:
        UsageError: There cannot be such a folder, or it holds a run or other files of the same names.
        MachineError: There is no permission to write there, or no space.
    """
    with open_folder(folder):
        require_new(RunFolder(folder))


def require_run(run: RunFolder) -> None:
    """Refuse a folder that holds no run.

    Raises:
        UsageError: It holds none, or is the folder of a stage.
    """
    if not run.is_run:
        raise UsageError(
            f"{run.path} is no run: it has no {run.config.name}", "Name the folder that the run was written to."
        )
    whole = run.find_whole()
    if whole != run:
        raise UsageError(
            f"{run.path} is a stage of {whole.path}", f"Resume the whole run: atrous train --resume {_quote(whole)}"
        )


def require_new(run: RunFolder) -> None:
    """Refuse a folder with files that a training would overwrite.

    Raises:
        UsageError: It holds a run, or other files of the same names.
    """
    if run.is_run:
        raise UsageError(
            f"{run.path} already holds a run",
            f"Choose another folder, or continue the run: atrous train --resume {_quote(run)}",
        )
    if existing := run.list_existing():
        names = shorten_list([path.name for path in existing])
        raise UsageError(f"{run.path} holds {names}, which a training would overwrite", "Choose another folder.")


def describe_resume(run: RunFolder, config: Config) -> str:
    """Return the command that continues a run, or the Python call if its data are Python objects.

    Args:
        run: The run's folder.
        config: Its settings.
    """
    if config.data.source == PYTHON_SOURCE:
        return f"atrous.train((train, val), resume={str(run.path)!r})"
    return f"atrous train --resume {_quote(run)}"


def _name_folder(config: Config) -> Path:
    """Return the folder of a run for which none is given, without its number."""
    source = resolve_source(config.data.source, config.data.root)
    data = source.root.resolve().name if source.dataset == FOLDER and source.root else source.dataset
    return Path("runs") / f"{data}-{config.model.name.replace('/', '-')}"


def _quote(run: RunFolder) -> str:
    return shlex.quote(str(run.path))
