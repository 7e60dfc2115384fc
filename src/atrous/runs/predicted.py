"""Files labelled by a model, in one process or in several that share them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atrous.config.options import update_options
from atrous.core.inference_options import InferenceOptions
from atrous.core.output_folder import require_folder
from atrous.core.records import MessageCallback, NoteCollector
from atrous.inference.folders.record import FolderRecord
from atrous.inference.folders.writer import PredictionRecord, save_predictions
from atrous.model import Model
from atrous.runs.scored_model import Loadable, choose_device, open_model

if TYPE_CHECKING:
    from atrous.training.world import World


def predict_files(
    inputs: str | Path | Sequence[str | Path],
    model: Loadable,
    out: Path,
    *,
    given: Mapping[str, Any],
    opening: Mapping[str, Any],
    overwrite: bool,
    world: World | None = None,
    on_message: MessageCallback | None = None,
    **options: Any,
) -> PredictionRecord:
    """Open a model and label files, folders and globs into a folder.

    Args:
        inputs: Images, folders and globs.
        model: The model.
        out: Folder of the results.
        given: Options of the labelling by name; those that are None have their defaults.
        opening: Options of the opening by name, likewise.
        overwrite: See `save_predictions`.
        world: The processes that share out the files; the first one keeps the record. Default: this one alone.
        on_message: Receives messages about automatic choices.
        options: The other options of `save_predictions`.
    """
    chosen = update_options(InferenceOptions(), given)
    if world is None or world.is_writer:  # the folder that the check makes is removed again
        require_folder(out)
    if not overwrite:
        FolderRecord(out).require_free({})
    collector = NoteCollector(on_message)
    opened = open_model(model, opening if world is None else choose_device(opening, world), collector)
    return save_predictions(
        opened.build_labeller(chosen, keep_backend=isinstance(model, Model), on_message=collector),
        [inputs] if isinstance(inputs, str | Path) else inputs,
        out,
        overwrite=overwrite,
        model_digest=opened.compute_digest(),
        notes=collector.notes,
        processes=world,
        **options,
    )
