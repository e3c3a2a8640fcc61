"""Every notebook runs whole, without a key and without a network, and shows what it showed when it was written."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.support.warm_python import warm_command

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
pytest.importorskip("matplotlib")

FOLDER = Path(__file__).parents[2] / "notebooks"
SUBJECTS = ["first", "client", "compaction", "recall", "langchain", "llamaindex", "three", "operators", "five"]
NEEDS = {"05": ["langchain.agents"], "06": ["llama_index.core"], "07": ["langchain_core", "llama_index.core"]}
NEEDS["09"] = [*NEEDS["07"], "agents", "pydantic_ai"]


def load_runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("notebooks_execute", FOLDER / "execute.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


runner = load_runner()


def loose(text: str) -> str:
    """A text without its figures: ids are random, and so is how many tokens those take that stand in a summary."""
    text = re.sub(r"[\[│┤][^\[\n]*[·▁-█▼][^\n]*", "(drawn)", text)
    return re.sub(r"\s+", " ", re.sub(r"[\d.,]*\d", "#", text))


NOTEBOOKS = runner.notebooks()


def test_there_is_a_notebook_for_each_subject() -> None:
    assert len(NOTEBOOKS) == len(SUBJECTS)
    for path, subject in zip(NOTEBOOKS, SUBJECTS, strict=True):
        assert subject in path.name


def install_kernel(folder: Path) -> str:
    """Write the specification of a kernel that starts quickly, as Jupyter keeps it, and return its name."""
    kernel = folder / "kernels" / "warm" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    # matplotlib reads where to draw when it is imported, which is before the kernel could tell it.
    argv = warm_command("-m", "ipykernel_launcher", "-f", "{connection_file}", "--matplotlib=inline", has_mnesis=True)
    kernel.write_text(json.dumps({"argv": argv, "display_name": "warm", "language": "python"}))
    return kernel.parent.name


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_shows_again_what_it_showed(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    kernel = install_kernel(tmp_path / "jupyter")
    for module in NEEDS.get(path.name[:2], []):
        pytest.importorskip(module)
    committed = nbformat.read(path, as_version=4)
    assert [loose(t) for t in runner.texts(runner.executed(path, tmp_path, kernel))] == [
        loose(t) for t in runner.texts(committed)
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_reads_well_where_nobody_runs_it(path: Path) -> None:
    notebook: Any = nbformat.read(path, as_version=4)
    assert notebook.cells[0].cell_type == "markdown"
    assert notebook.cells[0].source.startswith("# ")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "run whole, from the top"
    assert not any(output.output_type == "error" for cell in code for output in cell.outputs)
    shown = "\n".join(runner.texts(notebook))
    assert not re.search(r"/tmp/|/home/|/root/|0x[0-9a-f]{6}|Warning", shown), "outputs hold no noise"
    assert path.stat().st_size < 1_000_000


@pytest.mark.parametrize(
    ("beginning", "drawn"),
    [("01", "window.plot()"), ("03", "timeline.plot()"), ("03", "dag.plot()"), ("04", "dag.plot()")],
    ids=["gauge", "sawtooth", "summaries", "summaries again"],
)
def test_the_notebooks_about_the_context_have_pictures(beginning: str, drawn: str) -> None:
    (path,) = runner.notebooks(beginning)
    (cell,) = (cell for cell in nbformat.read(path, as_version=4).cells if drawn in cell.source)
    assert any("image/png" in output.get("data", {}) for output in cell.outputs)


def test_outputs_lose_what_changes_from_run_to_run() -> None:
    output = nbformat.v4.new_output(
        "stream", text="msg_0123456789abc msg_fedcba9876543 msg_0123456789abc 12.5 ms <A object at 0x7f1234>"
    )
    cell = nbformat.v4.new_code_cell("1", outputs=[output])
    cleaned = runner.without_noise(nbformat.v4.new_notebook(cells=[cell]))
    assert cleaned.cells[0].outputs[0].text == "msg_0001 msg_0002 msg_0001 … ms <A>"
