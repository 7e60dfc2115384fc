"""Predictions in a folder that people chose: nothing is lost, and nothing is done twice."""

from __future__ import annotations

import _thread
import errno
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tiny
from atrous.core.errors import MachineError, UsageError
from atrous.core.inference_options import InferenceOptions
from atrous.core.output_folder import hold_folder
from atrous.core.records import Note, Progress
from atrous.inference.build import build_labeller
from atrous.inference.engine import Engine
from atrous.inference.folders import writer
from atrous.inference.folders.predict import predict_image
from atrous.inference.folders.prediction import Prediction
from atrous.inference.folders.record import JOURNAL_NAME
from atrous.inference.folders.writer import PredictionRecord, save_predictions
from atrous.inference.labelling.labeller import Labeller
from atrous.networks.segmenter import Segmenter
from tiny import TINY_SPACE

ALL = {"formats": ["ids", "overlay", "confidence"], "probabilities": True}
OUTPUTS = ["a.png", "a_overlay.jpg", "a_confidence.png", "a_probabilities.npy", "predictions.json"]


@pytest.fixture
def labeller(tiny_network: Segmenter) -> Labeller:
    return build_labeller(Engine(tiny_network, device="cpu"), TINY_SPACE, InferenceOptions())


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with three images."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number, name in enumerate("abc"):
        pixels = np.random.default_rng(number).integers(0, 256, (33, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def label(labeller: Labeller, source: Path, out: Path, **options: object) -> PredictionRecord:
    return save_predictions(labeller, [source], out, **{"model_digest": "m", "formats": ["ids"], **options})


def list_done(record: PredictionRecord) -> tuple[list[str], list[str]]:
    """Return what was labelled now, and what earlier."""
    return [Path(row["input"]).stem for row in record.done], [Path(row["input"]).stem for row in record.kept]


def read_all(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_file_that_no_record_lists_is_never_replaced(
    labeller: Labeller, images: Path, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_bytes(b"made by hand")
    with pytest.raises(UsageError) as caught:
        label(labeller, images, out, **ALL)
    assert name in caught.value.message
    assert "overwrite" in caught.value.hint
    assert read_all(out) == {name: b"made by hand"}  # nothing was labelled either
    label(labeller, images, out, **ALL, overwrite=True)
    assert (out / name).read_bytes() != b"made by hand"


@pytest.mark.parametrize("name", OUTPUTS[:3])
def test_a_prediction_that_was_corrected_by_hand_is_not_replaced(
    labeller: Labeller, images: Path, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "out"
    label(labeller, images, out, **ALL)
    (out / name).write_bytes(b"corrected")
    assert list_done(label(labeller, images, out, **ALL)) == ([], ["a", "b", "c"])
    with pytest.raises(UsageError, match=f"{name}.*changed since atrous wrote it"):
        label(labeller, images, out, **ALL, model_digest="another")
    assert (out / name).read_bytes() == b"corrected"
    label(labeller, images, out, **ALL, model_digest="another", overwrite=True)
    assert (out / name).read_bytes() != b"corrected"


def test_the_labels_of_another_image_are_not_replaced(labeller: Labeller, images: Path, tmp_path: Path) -> None:
    other, out = tmp_path / "other", tmp_path / "out"
    other.mkdir()
    Image.new("RGB", (40, 33)).save(other / "a.png")
    label(labeller, images, out)
    with pytest.raises(UsageError, match=r"a\.png \(of .*in/a\.png\)"):
        label(labeller, other, out)


CHANGES: dict[str, Callable[[Path], dict[str, object]]] = {
    "another model": lambda images: {"model_digest": "another"},
    "no digest": lambda images: {"model_digest": None},
    "min_confidence": lambda images: {"min_confidence": 0.5},
    "palette": lambda images: {"formats": ["labels"]},
    "more files": lambda images: {"formats": ["ids", "confidence"]},
    "overwrite": lambda images: {"overwrite": True},
}


@pytest.mark.parametrize("change", [None, *CHANGES])
def test_images_are_labelled_again_only_if_something_changed(
    labeller: Labeller, images: Path, tmp_path: Path, change: str | None
) -> None:
    out = tmp_path / "out"
    assert list_done(label(labeller, images, out)) == (["a", "b", "c"], [])
    options = {} if change is None else CHANGES[change](images)
    record = label(labeller, images, out, **options)
    assert list_done(record) == (([], ["a", "b", "c"]) if change is None else (["a", "b", "c"], []))
    saved = json.loads((out / "predictions.json").read_text())
    assert [Path(row["input"]).stem for row in saved["done"]] == ["a", "b", "c"]
    assert {row["settings"] for row in saved["done"]} == {saved["settings"]}


def test_an_image_that_changed_or_whose_labels_are_gone_is_labelled_again(
    labeller: Labeller, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    label(labeller, images, out)
    Image.new("RGB", (40, 33)).save(images / "a.png")
    (out / "b.png").unlink()
    Image.new("RGB", (40, 33)).save(images / "new.png")
    assert list_done(label(labeller, images, out)) == (["a", "b", "new"], ["c"])


def test_an_interrupted_call_goes_on_where_it_stopped(labeller: Labeller, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    steps: list[tuple[int, int | None]] = []

    def stop(progress: Progress) -> None:
        if progress.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        label(labeller, images, out, progress=stop)
    assert caught.value.__notes__ == [f"2 labelled, 0 skipped in {out}; run it again to continue"]
    record = label(labeller, images, out, progress=lambda progress: steps.append((progress.done, progress.total)))
    assert list_done(record) == (["c"], ["a", "b"])
    assert repr(record) == f"PredictionRecord(1 labelled, 2 labelled earlier, 0 skipped, folder={str(out)!r})"
    assert steps == [(3, 3)]


@pytest.mark.parametrize(
    "moment", ["as the thread starts", "once it has started", "while it is written", "once it is noted"]
)
def test_an_interruption_at_the_first_image_says_what_is_there(
    labeller: Labeller, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def interrupt_after(owner: type, name: str) -> None:
        call = getattr(owner, name)

        def wrapped(*values: object) -> None:
            call(*values)
            raise KeyboardInterrupt

        monkeypatch.setattr(owner, name, wrapped)

    write, begun = Prediction.write, threading.Event()

    def write_slowly(*values: object) -> list[Path]:
        begun.set()
        if moment == "as the thread starts":
            _thread.interrupt_main()
        time.sleep(0.3)
        return write(*values)

    def wait(*_: object) -> None:
        begun.wait(10)
        raise KeyboardInterrupt

    if moment == "as the thread starts":
        monkeypatch.setattr(Prediction, "write", write_slowly)
    elif moment == "while it is written":
        monkeypatch.setattr(Prediction, "write", write_slowly)
        monkeypatch.setattr(writer._Saving, "wait", wait)
    elif moment == "once it has started":
        interrupt_after(writer._Saving, "start")
    else:
        interrupt_after(writer._Work, "note")
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt) as caught:
        label(labeller, images / "a.png", out)
    assert (out / "a.png").is_file()
    assert caught.value.__notes__ == [f"1 labelled, 0 skipped in {out}; run it again to continue"]
    assert [row["files"] for row in json.loads((out / "predictions.json").read_text())["done"]] == [["a.png"]]


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "no space left on the disk"), (errno.EACCES, "no permission to write"), (errno.EROFS, "read-only")],
)
def test_a_file_that_cannot_be_written_is_told_by_the_one_rule(
    labeller: Labeller, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, "strange")

    monkeypatch.setattr(Prediction, "write", fail)
    with pytest.raises(MachineError, match=words) as caught:
        label(labeller, images, tmp_path / "out")
    assert caught.value.message.startswith(f"{tmp_path / 'out' / 'a.png'}: ")
    assert caught.value.hint


def test_the_record_has_the_notes_of_the_call_and_of_what_it_kept(
    labeller: Labeller, images: Path, tmp_path: Path
) -> None:
    def read_codes() -> list[str]:
        return [note["code"] for note in json.loads((tmp_path / "out" / "predictions.json").read_text())["notes"]]

    label(labeller, images / "a.png", tmp_path / "out")
    assert read_codes() == []
    label(labeller, images / "b.png", tmp_path / "out", notes=[Note("void-id", "x")])
    assert read_codes() == ["void-id"]
    label(labeller, images, tmp_path / "out", notes=[Note("precision-bf16", "y")])  # keeps a and b
    assert read_codes() == ["void-id", "precision-bf16"]
    label(labeller, images, tmp_path / "out", notes=[Note("precision-bf16", "y")], overwrite=True)
    assert read_codes() == ["precision-bf16"]


def test_a_file_whose_package_is_missing_is_skipped_with_what_installs_it(
    labeller: Labeller, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (images / "photo.heic").write_bytes(b"\x00\x00\x00\x18ftypheic" + bytes(60))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    record = label(labeller, images, tmp_path / "out")
    assert len(record.done) == 3
    assert re.search(r"a HEIC image, .* pillow-heif: .*-m pip install .*pillow-heif", record.skipped[0]["reason"])


def test_a_link_that_leads_nowhere_is_skipped_by_name(labeller: Labeller, images: Path, tmp_path: Path) -> None:
    (images / "gone.png").symlink_to(tmp_path / "nothing.png")
    (images / "loop.png").symlink_to(images / "loop.png")
    record = label(labeller, images, tmp_path / "out")
    assert len(record.done) == 3
    reasons = {Path(row["input"]).name: row["reason"] for row in record.skipped}
    assert reasons.keys() == {"gone.png", "loop.png"}
    assert "a link that leads nowhere" in reasons["gone.png"]


def test_an_image_is_labelled_again_if_its_time_is_set_back_and_copied_labels_count_as_unchanged(
    labeller: Labeller, images: Path, tmp_path: Path
) -> None:
    image, out = images / "a.png", tmp_path / "out"
    label(labeller, images, out)
    times = image.stat()
    content = bytearray(image.read_bytes())
    image.write_bytes(content)
    os.utime(image, ns=(times.st_atime_ns, times.st_mtime_ns))
    for path in out.glob("*.png"):  # the time of status moves
        path.chmod(0o600)
    assert list_done(label(labeller, images, out)) == (["a"], ["b", "c"])


KILLED = """
import os, signal, sys
from pathlib import Path
import tiny
from atrous.core.inference_options import InferenceOptions
from atrous.inference.build import build_labeller
from atrous.inference.engine import Engine
from atrous.inference.folders.writer import save_predictions

labeller = build_labeller(Engine(tiny.build_tiny(), device="cpu"), tiny.TINY_SPACE, InferenceOptions())
def kill(progress):
    if progress.done == 2:
        os.kill(os.getpid(), signal.SIGKILL)
save_predictions(labeller, [Path(sys.argv[1])], Path(sys.argv[2]), formats=["ids"], model_digest="m", progress=kill)
"""


def test_a_killed_process_leaves_nothing_that_is_in_the_way(labeller: Labeller, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    path = os.pathsep.join([str(Path(tiny.__file__).parent), *sys.path])
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, images, out], env=os.environ | {"PYTHONPATH": path}, check=False
    )
    assert ended.returncode == -9
    assert not (out / "predictions.json").exists()
    with (out / JOURNAL_NAME).open("a") as journal:
        journal.write('{"row": {"fil')  # as if it had been killed in the middle of a line
    done, kept = list_done(label(labeller, images, out))
    assert (kept[:2], sorted(done + kept)) == (["a", "b"], ["a", "b", "c"])
    assert not (out / JOURNAL_NAME).exists()


def test_files_of_other_settings_do_not_stay_beside_new_labels(
    labeller: Labeller, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    label(labeller, images, out, formats=["ids", "overlay", "confidence"])
    (out / "b_overlay.jpg").write_bytes(b"drawn by hand")
    label(labeller, images, out, formats=["ids"], model_digest="another")
    assert sorted(path.name for path in out.iterdir()) == [
        *["a.png", "b.png", "b_overlay.jpg", "c.png", "predictions.json"]
    ]


def test_only_one_process_at_a_time_writes_there(labeller: Labeller, images: Path, tmp_path: Path) -> None:
    with hold_folder(tmp_path / "out"), pytest.raises(UsageError, match="is writing there"):
        label(labeller, images, tmp_path / "out")


def test_the_record_of_an_earlier_version_lists_its_files(labeller: Labeller, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    rows = [{"input": str(images / "a.png"), "files": ["a.png"], "height": 33, "width": 40, "window": None}]
    (out / "predictions.json").write_text(json.dumps({"protocol": {}, "done": rows, "skipped": []}))
    (out / "a.png").write_bytes(b"labels")
    assert len(label(labeller, images, out).done) == 3


@pytest.mark.parametrize("content", ["[]", "{}", "no JSON", '{"done": [{"files": []}], "skipped": []}', '{"done": 3}'])
def test_a_predictions_json_of_somebody_else_is_kept(
    labeller: Labeller, images: Path, tmp_path: Path, content: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "predictions.json").write_text(content)
    with pytest.raises(UsageError, match=r"predictions\.json"):
        label(labeller, images, out)
    assert (out / "predictions.json").read_text() == content


def test_the_record_says_how_files_are_read_and_the_size_is_the_upright_one(labeller: Labeller, tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    (tmp_path / "in").mkdir()
    Image.new("RGB", (40, 33)).save(tmp_path / "in" / "a.jpg", exif=turned)
    label(labeller, tmp_path / "in", tmp_path / "out")
    saved = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert (saved["done"][0]["height"], saved["done"][0]["width"]) == (40, 33)
    assert "EXIF" in saved["meaning"]["size"]
    assert "0 to 255 for probabilities 0 to 1" in saved["meaning"]["confidence"]


def test_ids_and_labels_are_two_forms_of_one_file(labeller: Labeller, images: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two forms of one file"):
        label(labeller, images, tmp_path / "out", formats=["ids", "labels"])
    for formats, mode in ((None, "L"), (["ids"], "L"), (["overlay"], "L"), (["labels"], "P")):
        label(labeller, images / "a.png", tmp_path / str(formats), formats=formats)
        with Image.open(tmp_path / str(formats) / "a.png") as image:
            assert image.mode == mode


@pytest.fixture
def prediction(labeller: Labeller, images: Path) -> Prediction:
    image = np.asarray(Image.open(images / "a.png"))
    return predict_image(labeller, image, key="a", source=images / "a.png", probabilities=True)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_saved_prediction_never_replaces_its_own_image(prediction: Prediction, images: Path, overwrite: bool) -> None:
    before = read_all(images)
    for folder in (images, str(images) + "/", images / ".." / "in"):
        with pytest.raises(UsageError, match="is that of the input"):
            prediction.save(folder, overwrite=overwrite)
    assert read_all(images) == before


@pytest.mark.parametrize("name", OUTPUTS[:4])
def test_a_saved_prediction_replaces_its_own_files_and_no_others(
    prediction: Prediction, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "out"
    prediction.save(out, confidence=True)
    prediction.save(out, confidence=True)  # a cell of a notebook, run again
    (out / name).write_bytes(b"made by hand")
    for other in (prediction, replace(prediction, source=None)):
        with pytest.raises(UsageError, match="would be lost"):
            other.save(out, confidence=True)
    assert (out / name).read_bytes() == b"made by hand"
    prediction.save(out, confidence=True, overwrite=True)
    assert (out / name).read_bytes() != b"made by hand"


def test_images_in_memory_have_names_of_their_own_or_are_refused(labeller: Labeller, tmp_path: Path) -> None:
    first, second = (predict_image(labeller, np.full((33, 33, 3), value, np.uint8)) for value in (0, 9))
    first.save(tmp_path)
    first.save(tmp_path)
    with pytest.raises(UsageError, match=r"image\.png \(of in memory"):
        second.save(tmp_path)
    replace(second, key="second").save(tmp_path)


def test_a_folder_is_labelled_beside_saved_predictions(
    labeller: Labeller, prediction: Prediction, images: Path, tmp_path: Path
) -> None:
    prediction.save(tmp_path / "out", overlay=False)
    label(labeller, images, tmp_path / "out")
    replace(prediction, key="other").save(tmp_path / "out", overlay=False)
    label(labeller, images, tmp_path / "out")
    saved = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [row["files"][0] for row in saved["done"]] == ["a.png", "b.png", "c.png", "other.png"]
