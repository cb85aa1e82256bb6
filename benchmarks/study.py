"""Where the minutes of `make study` go, and how soon a stage begins."""

import multiprocessing
import shlex
import subprocess
import tempfile
from pathlib import Path

import nbformat
import pandas as pd

from benchmarks.timing import Comparison, compare, spread
from hpelib.study.engine import METADATA
from hpelib.study.run import LIBRARIES, LOGS, execute

ROUNDS = 5
IMPORTS = "import pandas, timm, torch, torchvision\nfrom hpelib.study.steps import train"


def last_run(log: Path = LOGS / "study.csv") -> tuple[str, str]:
    """What was run by the last `make study` that had something to do, in one sentence; and what each kind took."""
    if not log.is_file():
        return "No study was run here: `make study` leaves its times.", ""
    stages = pd.read_csv(log)
    stages["s"] = stages["end_s"] - stages["start_s"]
    minutes = (stages["end_s"].max() - stages["start_s"].min()) / 60
    at_a_time = stages["s"].sum() / 60 / minutes
    said = (
        f"The last `make study` here: {len(stages)} stages in {minutes:.1f} minutes, {at_a_time:.2f} at a time on "
        "average, each from the start of its process to that one's end."
    )
    kinds = stages["stage"].str.partition("@")[0].str.removesuffix("_extra").rename("kind")
    found = stages.groupby(kinds)["s"].agg(["size", spread, "sum"]).sort_values("sum", ascending=False)
    found["share"] = (100 * found["sum"] / found["sum"].sum()).map("{:.1f} %".format)
    found["sum"] = (found["sum"] / 60).map("{:.1f}".format)
    found = found.set_axis(["stages", "s a stage", "minutes of one core", "of all"], axis=1)
    return said, found.to_markdown(disable_numparse=True)


def beginnings() -> list[Comparison]:
    """A notebook that imports what training does, forked as in `make study` against a new process."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "source.ipynb", Path(folder) / "target.ipynb"
        cells = [
            nbformat.v4.new_code_cell("a = 1", metadata={"tags": ["parameters"]}),
            nbformat.v4.new_code_cell(IMPORTS),
        ]
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=METADATA), source)
        command = f"python -m papermill {source} {target} --engine hpelib"
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(LIBRARIES)
        LOGS.mkdir(exist_ok=True)  # where `execute` writes

        def fork() -> None:
            process = context.Process(target=execute, args=("benchmark", command, Path(folder) / "cpu.csv"))
            process.start()
            process.join()

        others = {"a new process": lambda: subprocess.run(shlex.split(command), check=True, capture_output=True)}
        return compare("a notebook with its imports", fork, others, 1, ROUNDS)
