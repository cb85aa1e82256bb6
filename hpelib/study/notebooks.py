"""Execute a notebook through papermill such that the same inputs give the same bytes."""

import os
import re
import shutil
import sys
from pathlib import Path

# With it jsonschema would check internationalised addresses, which no notebook has; every stage would wait a second for
# its parser to be built.
sys.modules["rfc3987_syntax"] = None

import nbformat
import papermill
import yaml
from jupyter_client.manager import AsyncKernelManager
from traitlets.config import Config

from hpelib.study.forks import GLIBC, stand_in

KERNEL = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
ADDRESS = re.compile(r" at 0x[0-9a-f]+")
ANSI = re.compile(r"\x1b\[[0-9;]*m")


class ForkedKernelManager(AsyncKernelManager):
    """Starts kernels in forks where there is a process to fork from."""

    def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
        command = super().format_kernel_cmd(extra_arguments)
        return [*stand_in(), *command[command.index("-m") :]]


def execute(source: Path, target: Path, parameters: dict) -> None:
    """Run `source` with `parameters` and leave the scrubbed result at `target`, or nothing there if it fails.

    A failed notebook is kept as `logs/<stage>.failed.ipynb`, with the error where it happened.

    Raises:
        ValueError: the notebook declares no such parameter.
    """
    declared = papermill.inspect_notebook(str(source))
    if unknown := parameters.keys() - declared.keys():
        raise ValueError(f"{source} has no parameter {', '.join(sorted(unknown))}; it has {', '.join(declared)}")
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # or a python3 kernel in the user's home would win
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    os.environ.setdefault("GLIBC_TUNABLES", GLIBC)  # for the kernel
    target.parent.mkdir(parents=True, exist_ok=True)
    running = Path("logs") / f"{os.environ.get('DVC_STAGE', target.stem)}.failed.ipynb"
    running.parent.mkdir(exist_ok=True)
    papermill.execute_notebook(
        str(source),
        str(running),
        parameters,
        kernel_name="python3",
        progress_bar=False,
        stdout_file=sys.stdout,
        stderr_file=sys.stderr,
        record_timing=False,
        start_timeout=300,
        iopub_timeout=60,
        kernel_manager_class=ForkedKernelManager,
        config=Config(KernelManager={"transport_encryption": "auto"}),
    )
    notebook = scrub(nbformat.read(running, as_version=4), Path.cwd())
    nbformat.write(notebook, running)
    shutil.move(running, target)


def scrub(notebook: nbformat.NotebookNode, root: Path) -> nbformat.NotebookNode:
    """Take out what differs between two runs of the same thing: times, ids, addresses, this machine's paths."""
    notebook.metadata = nbformat.from_dict(KERNEL)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        cell.metadata = nbformat.from_dict({key: value for key, value in cell.metadata.items() if key == "tags"})
        if cell.cell_type == "code":
            cell.outputs = [_scrub_output(output, str(root)) for output in cell.outputs if not _is_stderr(output)]
    return notebook


def _is_stderr(output: nbformat.NotebookNode) -> bool:
    return output.output_type == "stream" and output.name == "stderr"


def _scrub_output(output: nbformat.NotebookNode, root: str) -> nbformat.NotebookNode:
    def clean(text: str) -> str:
        return ANSI.sub("", ADDRESS.sub("", text)).replace(root, ".")

    if "text" in output:
        output.text = clean(output.text)
    for kind, value in output.get("data", {}).items():
        if kind.startswith("text/") and isinstance(value, str):
            output.data[kind] = clean(value)
    return output


if __name__ == "__main__":
    assignments = (argument.split("=", 1) for argument in sys.argv[3:])
    execute(Path(sys.argv[1]), Path(sys.argv[2]), {name: yaml.safe_load(value) for name, value in assignments})
