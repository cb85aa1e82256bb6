import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from hpelib.study.forks import VARIABLE, forking, stand_in
from hpelib.study.notebooks import KERNEL, execute

TELL = """
import json, os, sys
told = {"arguments": sys.argv[1:], "folder": os.getcwd(), "name": __name__, "probe": os.environ.get("PROBE")}
print(json.dumps(told | {"input": sys.stdin.read(), "imported": "torch" in sys.modules}))
sys.stderr.write("a warning")
sys.exit(int(sys.argv[1]))
"""
# starts a process of its own, says both ids, waits; "interrupted" if that is what ends it, at any
# moment after the ids can be read
WAIT = """
import os, subprocess, time
child = subprocess.Popen(["sleep", "100"])
try:
    print(os.getpid(), child.pid, flush=True)
    time.sleep(100)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    raise SystemExit(3)
"""


# what asks the CUDA driver anything before a fork, after which no fork can use a GPU
ASK_NO_GPU = """
import importlib, sys, torch
def touched(*_):
    raise RuntimeError("asked for GPUs")
for name in ("_cuda_init", "_cuda_getDeviceCount"):
    if hasattr(torch._C, name):
        setattr(torch._C, name, touched)
from hpelib.study.forks import LIBRARIES
for name in LIBRARIES:
    importlib.import_module(name)
sys.exit(torch.cuda.is_initialized())
"""


@pytest.fixture(scope="module", params=[signal.default_int_handler, signal.SIG_IGN], ids=["shell", "background"])
def origin(request) -> Iterator[None]:
    """A process to fork from, as long as this file's tests run; in the background of a shell it ignores interrupts."""
    with pytest.MonkeyPatch.context() as patch:
        before = signal.signal(signal.SIGINT, request.param)
        patch.delenv("MPLBACKEND", raising=False)  # kernels set it, tests do
        patch.setenv("PROBE", "set before")
        with forking():
            signal.signal(signal.SIGINT, before)
            yield


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working directory whose modules a fork finds as any Python does, by the environment."""
    monkeypatch.chdir(tmp_path)
    for name, code in (("tell", TELL), ("wait", WAIT), ("wrong", "raise KeyError('lost')"), ("stop", "exit('why')")):
        Path(f"probe_{name}.py").write_text(code)
    return tmp_path


def run(module: str, *arguments: str, **options) -> subprocess.CompletedProcess:
    command = [*stand_in(), "-m", f"probe_{module}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, **options)


def is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    return False


def wait_until_dead(*pids: int) -> None:
    end = time.monotonic() + 120
    while any(map(is_alive, pids)):
        assert time.monotonic() < end, "still there"
        time.sleep(0.05)


def start_waiting() -> tuple[subprocess.Popen, list[int]]:
    process = subprocess.Popen([*stand_in(), "-m", "probe_wait"], stdout=subprocess.PIPE, text=True)
    return process, [int(pid) for pid in process.stdout.readline().split()]


def test_a_fork_has_nothing_that_its_stand_in_has_not(origin, folder, monkeypatch):
    monkeypatch.delenv("PROBE")
    assert json.loads(run("tell", "0", input="").stdout)["probe"] is None


@pytest.mark.parametrize("status", [0, 7])
def test_a_fork_has_all_that_its_stand_in_has_and_the_libraries(origin, folder, monkeypatch, status):
    monkeypatch.setenv("PROBE", "set later")
    (folder / "here").mkdir()
    (folder / "probe_tell.py").rename(folder / "here/probe_tell.py")
    found = run("tell", str(status), "b c", input="some text", cwd=folder / "here")
    assert json.loads(found.stdout) == {
        "arguments": [str(status), "b c"],
        "folder": str(folder / "here"),
        "name": "__main__",
        "probe": "set later",
        "input": "some text",
        "imported": True,
    }
    assert found.stderr == "a warning"
    assert found.returncode == status


def test_without_a_process_to_fork_from_it_is_the_plain_command(folder, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    found = run("tell", "7", input="some text")
    told = json.loads(found.stdout)
    assert (told.pop("imported"), told["arguments"], told["input"]) == (False, ["7"], "some text")
    assert (found.stderr, found.returncode) == ("a warning", 7)
    monkeypatch.setenv(VARIABLE, str(folder / "gone"))
    assert run("tell", "7", input="some text").stdout == found.stdout


@pytest.mark.parametrize(("module", "said"), [("wrong", "KeyError: 'lost'"), ("stop", "why")])
def test_how_a_fork_failed_is_told(origin, folder, module, said):
    found = run(module)
    assert found.returncode == 1
    assert found.stderr.strip().endswith(said)


def test_a_killed_stand_in_takes_the_fork_and_what_that_started_along(origin, folder):
    process, pids = start_waiting()
    assert all(map(is_alive, pids))
    process.kill()
    wait_until_dead(*pids)


def test_a_killed_fork_is_a_failure(origin, folder):
    process, (fork, _) = start_waiting()
    os.kill(fork, signal.SIGKILL)
    assert process.wait() == 1


def test_an_interrupt_reaches_the_fork(origin, folder):
    process, pids = start_waiting()
    process.send_signal(signal.SIGINT)
    assert process.stdout.read() == "interrupted\n"
    assert process.wait() == 3
    wait_until_dead(*pids)


def test_a_stand_in_does_not_outlive_its_parent(origin, folder):
    code = f"import subprocess, time; subprocess.Popen({[*stand_in(), '-m', 'probe_wait']}); time.sleep(100)"
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    parent.kill()
    wait_until_dead(*pids)


def test_the_libraries_ask_no_gpu_before_the_fork():
    found = subprocess.run([sys.executable, "-c", ASK_NO_GPU], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def test_nothing_is_left_when_the_study_ends(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with forking():
        address = Path(os.environ[VARIABLE])
        assert address.exists()
    assert not address.exists()
    assert VARIABLE not in os.environ


def test_a_notebook_has_the_same_bytes_from_a_fork(origin, folder, monkeypatch):
    cells = [
        nbformat.v4.new_code_cell("a = 1", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("import os, sys\nprint(a)\n'torch' in sys.modules if a == 2 else os.getcwd()"),
        nbformat.v4.new_code_cell(
            "import matplotlib\nprint(matplotlib.get_backend(), os.environ['GLIBC_TUNABLES'])\na"
        ),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=KERNEL), "source.ipynb")
    monkeypatch.delenv("MPLBACKEND", raising=False)
    execute(Path("source.ipynb"), Path("forked.ipynb"), {"a": 3})
    execute(Path("source.ipynb"), Path("imported.ipynb"), {"a": 2})
    monkeypatch.delenv(VARIABLE)
    execute(Path("source.ipynb"), Path("plain.ipynb"), {"a": 3})
    assert Path("forked.ipynb").read_bytes() == Path("plain.ipynb").read_bytes()
    shown = nbformat.read("imported.ipynb", as_version=4).cells[-2].outputs[-1]
    assert shown["data"]["text/plain"] == "True", "the kernel was no fork"
