"""Notebooks run by `python -m papermill ... --engine hpelib`, as dvc.yaml runs them."""

import copy
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from hpelib.study.engine import METADATA, scrub

ROOT = Path(__file__).resolve().parents[2]
NOISE = """
import os, sys, time, warnings
print(object(), os.getcwd(), times)
print(time.time_ns(), file=sys.stderr)
warnings.warn(str(time.time_ns()))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("DVC_STAGE", raising=False)
    return tmp_path


def write_notebook(*codes: str) -> None:
    """A notebook source.ipynb with the parameter `times` and these cells."""
    cells = [
        nbformat.v4.new_markdown_cell("# Noise"),
        nbformat.v4.new_code_cell("times = 1", metadata={"tags": ["parameters"]}),
        *map(nbformat.v4.new_code_cell, codes),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=METADATA), "source.ipynb")


def papermill(target: str, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "papermill", "source.ipynb", target, "--engine", "hpelib", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def outputs(path: str) -> list[list[str]]:
    """What each code cell shows as text."""
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    return [[output.get("text") or output.data["text/plain"] for output in cell.outputs] for cell in cells]


def test_two_executions_are_equal_to_the_byte(folder):
    table = "import pandas as pd\npd.DataFrame({'a': [times, 2]})"
    write_notebook(NOISE, "object()", table, "seen = times\nseen;", "_ = 3")
    for target in ("made/first.ipynb", "made/second.ipynb"):
        done = papermill(target, "-p", "times", "3")
        assert done.returncode == 0, done.stderr
        assert "<object object at 0x" in done.stdout, "what a cell prints is seen"
    first, second = (Path("made", name).read_bytes() for name in ("first.ipynb", "second.ipynb"))
    assert first == second
    assert str(folder).encode() not in first
    shown = outputs("made/first.ipynb")
    assert shown[2:4] == [["<object object> . 3\n"], ["<object>"]]
    assert shown[4] == ["   a\n0  3\n1  2"]
    assert shown[5:] == [[], []], "a semicolon hides a value"
    nbformat.validate(nbformat.read("made/first.ipynb", as_version=4))
    assert not Path("logs").exists()


def test_an_unknown_parameter_is_refused_before_anything_runs(folder):
    write_notebook("open('ran', 'w')")
    done = papermill("made/target.ipynb", "-p", "tims", "3")
    assert done.returncode != 0
    assert "source.ipynb has no parameter tims; it has times" in done.stderr.splitlines()[-1]
    assert not Path("ran").exists()
    assert not Path("made/target.ipynb").exists()


@pytest.mark.parametrize(
    ("stage", "error", "said"),
    [
        (None, "raise RuntimeError('as planned')", "RuntimeError: as planned"),
        ("train@coco", "import sys\nsys.exit('as planned')", "as planned"),
        (None, "1 +", "SyntaxError"),
    ],
)
def test_a_failed_notebook_is_kept_beside_and_not_at_the_target(folder, monkeypatch, stage, error, said):
    if stage:
        monkeypatch.setenv("DVC_STAGE", stage)
    kept = stage or "target"
    write_notebook("print('before')", error, "open('ran', 'w')")
    done = papermill("made/target.ipynb")
    assert done.returncode != 0
    assert said in done.stderr
    assert f"see logs/{kept}.failed.ipynb" in done.stderr
    assert outputs(f"logs/{kept}.failed.ipynb")[1] == ["before\n"]
    assert not Path("ran").exists()
    assert not Path("made/target.ipynb").exists()
    assert str(folder) not in Path(f"logs/{kept}.failed.ipynb").read_text()


def test_scrub_takes_out_what_differs_between_runs(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    here = str(tmp_path)
    shown = [
        nbformat.v4.new_output("stream", name="stdout", text=f"{here}/work <A at 0x7f0a>"),
        nbformat.v4.new_output(
            "display_data", data={"text/plain": "<B at 0xff>", "text/html": f"<b>{here}</b>", "image/png": here}
        ),
    ]
    cell = nbformat.v4.new_code_cell("1", outputs=shown, metadata={"tags": ["parameters"], "papermill": {"time": 3}})
    metadata = {"papermill": {"start_time": "now"}, "kernelspec": {"name": "other", "display_name": "other"}}
    noisy = nbformat.v4.new_notebook(cells=[cell, nbformat.v4.new_markdown_cell("at 0x12")], metadata=metadata)
    clean = scrub(copy.deepcopy(noisy))
    stream, display = clean.cells[0].outputs
    assert stream.text == "./work <A>"
    assert display.data == {"text/plain": "<B>", "text/html": "<b>.</b>", "image/png": here}, "pictures are bytes"
    assert clean.cells[0].metadata == {"tags": ["parameters"]}
    assert "papermill" not in clean.metadata
    assert clean.metadata.kernelspec.name == "python3"
    assert [cell.id for cell in clean.cells] == ["cell-00", "cell-01"]
    assert clean.cells[1].source == "at 0x12", "what somebody wrote stays"
    nbformat.validate(clean)
    assert scrub(copy.deepcopy(clean)) == clean


# A notebook's process that was started by a shell that was started by this test.
WAIT = "import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(600)"
SHELL = "import subprocess, sys; subprocess.run([sys.executable, '-m', 'papermill', *sys.argv[1:]])"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent is gone")
def test_a_notebook_does_not_outlive_its_parent(folder):
    write_notebook(WAIT)
    parent = subprocess.Popen([sys.executable, "-c", SHELL, "source.ipynb", "target.ipynb", "--engine", "hpelib"])
    pid = int(wait_for(lambda: parent.poll() is not None or (Path("pid").is_file() and Path("pid").read_text())))
    assert is_alive(pid)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_for(lambda: not is_alive(pid))


def wait_for(ready):
    """What `ready` returns as soon as that is true."""
    end = time.monotonic() + 300
    while not (found := ready()):
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def test_a_page_whose_networks_were_not_run_ends_there_and_says_so(folder):
    stop = "from hpelib.study.engine import NotRunError\nraise NotRunError('ditn was not trained')"
    write_notebook(stop, "raise ValueError('never reached')")
    assert papermill("target.ipynb").returncode == 0
    page = Path("target.ipynb").read_text()
    assert "**Not run.** ditn was not trained" in page
    assert '"traceback"' not in page


def test_a_notebook_is_not_written_over_by_its_page(folder):
    write_notebook("open('ran', 'w')")
    before = Path("source.ipynb").read_bytes()
    done = papermill("./source.ipynb")
    assert "source.ipynb is the notebook itself" in done.stderr.splitlines()[-1]
    assert Path("source.ipynb").read_bytes() == before
    assert not Path("ran").exists()


def test_a_page_is_not_written_through_a_link(folder):
    """DVC's cache may lie behind links in the folder of results."""
    write_notebook("times")
    Path("cache").write_text("as it was")
    Path("page.ipynb").symlink_to("cache")
    assert papermill("page.ipynb").returncode == 0
    assert Path("cache").read_text() == "as it was"
    assert outputs("page.ipynb")[-1] == ["1"]
