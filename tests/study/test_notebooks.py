import copy
import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from papermill.exceptions import PapermillExecutionError

from hpelib.study.notebooks import GLIBC, KERNEL, execute, scrub

NOISE = """
import os, sys, time, warnings
print(object(), os.getcwd(), time.strftime("at noon"))
print("\\x1b[31mred\\x1b[0m", times)
print(time.time_ns(), file=sys.stderr)
warnings.warn(str(time.time_ns()))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    return tmp_path


def write_notebook(path: Path, code: str) -> Path:
    cells = [
        nbformat.v4.new_markdown_cell("# Noise"),
        nbformat.v4.new_code_cell("times = 1", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(code),
        nbformat.v4.new_code_cell("object()"),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=KERNEL), path)
    return path


def test_two_executions_are_equal_to_the_byte(folder, capfd):
    source = write_notebook(folder / "noise.ipynb", NOISE)
    for target in ("first.ipynb", "second.ipynb"):
        execute(source, folder / "made" / target, {"times": 3})
    first, second = ((folder / "made" / name).read_bytes() for name in ("first.ipynb", "second.ipynb"))
    assert first == second
    text = first.decode()
    assert list((folder / "logs").iterdir()) == []
    assert str(folder) not in text
    assert "0x" not in text
    streams = [output for cell in json.loads(text)["cells"] for output in cell.get("outputs", [])]
    assert [output.get("name", output["output_type"]) for output in streams] == ["stdout", "execute_result"]
    assert "".join(streams[0]["text"]) == "<object object> . at noon\nred 3\n"
    assert "object" in capfd.readouterr().out, "what a cell prints is seen while it runs"


@pytest.mark.parametrize("own", [None, "glibc.malloc.trim_threshold=1000000"])
def test_kernels_keep_their_memory_unless_told_otherwise(folder, monkeypatch, own):
    monkeypatch.setenv("GLIBC_TUNABLES", own or "")
    if own is None:
        monkeypatch.delenv("GLIBC_TUNABLES")
    source = write_notebook(folder / "noise.ipynb", "import os\nprint(os.environ['GLIBC_TUNABLES'])")
    execute(source, folder / "target.ipynb", {})
    printed = json.loads((folder / "target.ipynb").read_text())["cells"][-2]["outputs"][0]
    assert "".join(printed["text"]).strip() == (own or GLIBC)


def test_an_unknown_parameter_is_refused_before_anything_runs(folder):
    source = write_notebook(folder / "noise.ipynb", "open('ran', 'w')")
    with pytest.raises(ValueError, match=r"noise\.ipynb has no parameter tims; it has times"):
        execute(source, folder / "target.ipynb", {"tims": 3})
    assert not (folder / "ran").exists()
    assert not (folder / "target.ipynb").exists()


@pytest.mark.parametrize(("stage", "kept"), [(None, "target"), ("train@coco", "train@coco")])
def test_a_failed_notebook_is_kept_beside_and_not_at_the_target(folder, monkeypatch, stage, kept):
    if stage:
        monkeypatch.setenv("DVC_STAGE", stage)
    source = write_notebook(folder / "noise.ipynb", "raise RuntimeError('as planned')")
    with pytest.raises((PapermillExecutionError, CellExecutionError), match="as planned"):
        execute(source, folder / "made" / "target.ipynb", {})
    assert list((folder / "made").iterdir()) == []
    assert "as planned" in (folder / "logs" / f"{kept}.failed.ipynb").read_text()


def noisy_notebook() -> nbformat.NotebookNode:
    outputs = [
        nbformat.v4.new_output("stream", name="stdout", text="/home/me/study/work <A at 0x7f0a> \x1b[1mbold\x1b[0m"),
        nbformat.v4.new_output("stream", name="stderr", text="12 seconds"),
        nbformat.v4.new_output(
            "display_data",
            data={"text/plain": "<B at 0xff>", "text/html": "<b>/home/me/study</b>", "image/png": "/home/me/study"},
        ),
    ]
    cell = nbformat.v4.new_code_cell("1", outputs=outputs, metadata={"tags": ["parameters"], "papermill": {"time": 3}})
    metadata = {"papermill": {"start_time": "now"}, "kernelspec": {"name": "other", "display_name": "other"}}
    return nbformat.v4.new_notebook(cells=[cell, nbformat.v4.new_markdown_cell("at 0x12")], metadata=metadata)


def test_scrub_takes_out_what_differs_between_runs():
    clean = scrub(noisy_notebook(), Path("/home/me/study"))
    stream, display = clean.cells[0].outputs
    assert stream.text == "./work <A> bold"
    assert display.data == {"text/plain": "<B>", "text/html": "<b>.</b>", "image/png": "/home/me/study"}
    assert clean.cells[0].metadata == {"tags": ["parameters"]}
    assert clean.metadata == KERNEL
    assert [cell.id for cell in clean.cells] == ["cell-00", "cell-01"]
    assert clean.cells[1].source == "at 0x12", "what somebody wrote stays"
    nbformat.validate(clean)


def test_scrub_is_idempotent():
    once = scrub(noisy_notebook(), Path("/home/me/study"))
    assert scrub(copy.deepcopy(once), Path("/home/me/study")) == once


def test_starting_builds_no_parser_of_addresses():
    seen = "import sys, hpelib.study.notebooks; sys.exit('lark' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", seen]).returncode == 0
