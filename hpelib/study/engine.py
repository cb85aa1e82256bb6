"""The papermill engine `hpelib`: it runs a notebook in papermill's own process and leaves a page whose bytes repeat.

    python -m papermill notebooks/train.ipynb work/train.ipynb --engine hpelib -p network ditn

A kernel of its own would cost every stage two seconds. Here the cells run in an IPython shell. What differs between two
runs of the same thing is taken out of the page: times, ids, addresses in memory, the folder of this machine.
"""

import os
import re
import sys
from pathlib import Path

import nbformat
from IPython.core.displayhook import DisplayHook
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import display
from IPython.utils.capture import capture_output
from nbformat.v4 import new_output

from hpelib.parents import die_with_parent

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
METADATA = {"kernelspec": KERNEL, "language_info": {"name": "python"}}


class NotRunError(Exception):
    """What a notebook shows was not run under this profile: the page ends with this message, and the stage succeeds."""


class InProcess:
    """What papermill asks of an engine. It imports this module while it is imported itself, so there is no base class.

    The first error ends the notebook. It is then kept as logs/NAME.failed.ipynb, and no page is written.
    """

    @staticmethod
    def nb_kernel_name(nb, name=None) -> str:
        return KERNEL["name"]

    @staticmethod
    def nb_language(nb, language=None) -> str:
        return METADATA["language_info"]["name"]

    @staticmethod
    def execute_notebook(nb, kernel_name, *, input_path: str, output_path: str, **unused):
        from papermill.inspection import inspect_notebook

        if Path(output_path).resolve() == Path(input_path).resolve():
            raise ValueError(f"{output_path} is the notebook itself; give another place for the page")
        declared, given = inspect_notebook(input_path), nb.metadata.papermill.parameters
        if unknown := given.keys() - declared.keys():  # papermill only warns
            raise ValueError(f"{input_path} has no parameter {', '.join(unknown)}; it has {', '.join(declared)}")
        die_with_parent()
        os.environ.setdefault("MPLBACKEND", "Agg")
        Path(output_path).parent.mkdir(parents=True, exist_ok=True)
        try:
            run_cells(nb)
        except BaseException:
            failed = Path("logs") / f"{os.environ.get('DVC_STAGE', Path(output_path).stem)}.failed.ipynb"
            failed.parent.mkdir(exist_ok=True)
            nbformat.write(scrub(nb), failed)
            print(f"the notebook failed: see {failed}", file=sys.stderr)
            raise
        Path(output_path).unlink(missing_ok=True)  # may be a link into DVC's cache, which papermill would write into
        return scrub(nb)


class _Hook(DisplayHook):
    """Shows the value of a cell's last line as `display` would."""

    def __call__(self, result=None):
        if result is not None and not self.quiet():
            display(result)


class _Shell(InteractiveShell):
    displayhook_class = _Hook


def run_cells(nb: nbformat.NotebookNode) -> None:
    """Run the code cells of `nb` and fill in what they print and show. `NotRunError` ends it; others are raised."""
    shell = _Shell.instance()
    shell.history_manager.enabled = False
    for number, cell in enumerate((cell for cell in nb.cells if cell.cell_type == "code"), start=1):
        with capture_output(stderr=False) as captured:
            result = shell.run_cell(cell.source, store_history=True)
        cell.execution_count = number
        cell.outputs = [new_output("stream", text=captured.stdout)] if captured.stdout else []
        for rich in captured.outputs:
            cell.outputs.append(new_output("display_data", rich.data, metadata=rich.metadata or {}))
        print(captured.stdout, end="", flush=True)
        if isinstance(result.error_in_exec, NotRunError):
            cell.outputs = [new_output("display_data", {"text/markdown": f"**Not run.** {result.error_in_exec}"})]
            return
        result.raise_error()


def scrub(nb: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Take out of `nb` what differs between two runs of the same thing."""
    nb.metadata = nbformat.from_dict(METADATA)
    for number, cell in enumerate(nb.cells):
        cell.id = f"cell-{number:02d}"
        cell.metadata = nbformat.from_dict({key: value for key, value in cell.metadata.items() if key == "tags"})
        for output in cell.get("outputs", []):
            texts = output if "text" in output else output.data
            for kind in texts:
                if kind.startswith("text"):
                    texts[kind] = re.sub(r" at 0x[0-9a-f]+", "", texts[kind]).replace(str(Path.cwd()), ".")
    return nb
