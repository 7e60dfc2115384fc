"""The notebook in docs/ runs as it is, and its cells show what its text says."""

from __future__ import annotations

from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebook.ipynb"


def list_outputs(cell):
    return [output for output in cell.get("outputs", []) if output.output_type in ("execute_result", "display_data")]


@pytest.mark.slow
def test_the_notebook_shows_progress_curves_scores_and_an_overlay(tmp_path):
    nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed; it is part of the extra `docs`")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed; it is part of the extra `docs`")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed; it is part of the extra `docs`")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = {cell.source.splitlines()[-1]: list_outputs(cell) for cell in notebook.cells if cell.cell_type == "code"}
    kinds = {source: set().union(*(output.data for output in outputs)) for source, outputs in shown.items()}
    assert "image/png" in kinds["prediction"]
    assert "text/html" in kinds["run.scores"]
    assert {"image/svg+xml", "image/png", "text/html"} & kinds["run"]
    printed = [o.text for cell in notebook.cells for o in cell.get("outputs", []) if o.output_type == "stream"]
    assert not [text for text in printed if "Traceback" in text or "Warning" in text]


def test_the_notebook_is_stored_without_outputs():
    import json

    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []
