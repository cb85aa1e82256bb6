"""Every notebook as a reader of a fresh clone has it: opened in JupyterLab, all cells run, nothing trained before."""

import shutil
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[3]
NOTEBOOKS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("notebooks/**/*.ipynb"))
# What the repository brings is enough for these. The others read what the study computes, or pictures of the reader's.
LOOKS_INSIDE = {"notebooks/00_start.ipynb", "notebooks/codecs.ipynb", "notebooks/explore.ipynb"} | {
    name for name in NOTEBOOKS if name.startswith("notebooks/networks/")
}
BROUGHT = ("hpelib", "notebooks", "weights", "data", "reports")
ERROR = ", ".join(f"[data-mime-type='application/vnd.jupyter.{kind}']" for kind in ("error", "stderr"))
MISSING = (
    "run: dvc repro",
    "run: make study",
    "Run make study first",
    "no such annotation file",
    "no picture",
)  # what the others end with


@pytest.fixture
def lab(open_lab, tmp_path):
    """A JupyterLab in a copy of what git keeps."""
    unkept = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
    for name in BROUGHT:
        shutil.copytree(ROOT / name, tmp_path / "clone" / name, ignore=unkept)
    shutil.copy(ROOT / "params.yaml", tmp_path / "clone")
    return open_lab(tmp_path / "clone")


def test_notebooks_keep_no_outputs():
    for name in NOTEBOOKS:
        for cell in nbformat.read(ROOT / name, as_version=4).cells:
            assert not cell.get("outputs"), name


def test_all_cells_run_or_say_what_to_run_first(lab):
    assert len(LOOKS_INSIDE) == 9
    for notebook in sorted(NOTEBOOKS, key=lambda name: name not in LOOKS_INSIDE):
        lab.run_all(notebook)
        if notebook in LOOKS_INSIDE:
            lab.wait(lambda: all(prompt.strip("[]:").isdigit() for prompt in lab.prompts()))
            broken = lab.driver.execute_script(
                "return [...document.querySelectorAll('.jp-Notebook img')].filter(i => i.complete && !i.naturalWidth)"
            )
            assert not broken, notebook
        else:
            (error,) = lab.wait(lambda: lab.find(ERROR), trouble=".jp-Dialog")
            said = error.text.splitlines()[-1]
            assert any(words in said for words in MISSING), (notebook, said)
        lab.screenshot(notebook.removeprefix("notebooks/").removesuffix(".ipynb").replace("/", "_"))
        assert lab.console_errors() == [], notebook
        assert lab.hosts() <= {"127.0.0.1"}, notebook
        lab.stop_kernels()
