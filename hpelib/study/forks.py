"""Python processes that start with the libraries imported, because they are forked from one that has imported them.

Every stage of the study is a DVC process and a notebook's kernel, which import for longer than many a stage works.
While `forking` holds, a command that begins with `stand_in()` instead of the interpreter runs in a fork: the stand-in
hands on its arguments, environment, folder and standard streams, and interrupts, and ends as the fork ends; where it
dies, or its parent, the fork and what that has started are killed. Without `forking`, and on systems other than Linux,
whose libraries do not survive a fork, it becomes the plain command.

Standard library only: a stand-in is there in 20 ms.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path

INTERRUPT = b"i"  # all that a stand-in says after its request
VARIABLE = "HPELIB_FORKS"  # where the process to fork from listens
LIBRARIES = (  # none of the project's own modules, which every process reads anew
    *("torch", "torchvision", "timm", "accelerate", "safetensors.torch"),
    *("cv2", "pandas", "pycocotools.cocoeval", "scipy.optimize", "matplotlib.figure", "seaborn"),
    *("ipykernel.kernelapp", "ipykernel.zmqshell", "matplotlib_inline.backend_inline"),
    *("dvc.cli", "dvc.commands.repro", "dvc.repo"),
)
# Else glibc gives the memory of large tensors back at every training step and faults it in again at the next: up to a
# seventh of a training's time on a CPU.
GLIBC = "glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=4294967296:glibc.malloc.hugetlb=1"
BACKEND = "module://matplotlib_inline.backend_inline"  # what a kernel tells matplotlib, which reads it once


def stand_in() -> list[str]:
    """What a command begins with that shall run in a fork; `-m MODULE ARGUMENTS` follows."""
    return [sys.executable, "-I", "-S", __file__]


@contextlib.contextmanager
def forking() -> Iterator[None]:
    """While this holds, stand-ins of this process and of those that it starts find a process to fork from."""
    if sys.platform != "linux":
        yield
        return
    environment = {"GLIBC_TUNABLES": GLIBC, "MPLBACKEND": BACKEND} | os.environ
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        os.environ[VARIABLE] = str(Path(folder, "forks"))
        listener.bind(os.environ[VARIABLE])
        listener.listen(64)  # whoever comes before the imports are done waits here
        origin = subprocess.Popen(
            [sys.executable, "-m", __name__, str(listener.fileno())],
            stdin=subprocess.PIPE,  # its end tells the process that this one is gone
            pass_fds=[listener.fileno()],
            env=environment,
            start_new_session=True,  # the keyboard interrupts the stand-ins, and they the forks
        )
        try:
            yield
        finally:
            del os.environ[VARIABLE]
            origin.stdin.close()
            origin.wait()


def serve(listener: socket.socket) -> None:
    """Fork for every stand-in that connects, until standard input ends."""
    os.environ["JPY_PARENT_PID"] = str(os.getpid())  # read on import; with it a kernel ends when this process does
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.freeze()  # the forks' collections shall not write to what is shared
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            os._exit(0)  # to take all libraries down in good order takes a second
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            os._exit(run_for(connection))
        connection.close()


def run_for(connection: socket.socket) -> int:
    """Take the stand-in's place: run its module with what is its, tell it the exit status and return that."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the study was started in the background
    os.setsid()  # with what it starts, one group to interrupt or to kill
    size, streams, _, _ = socket.recv_fds(connection, 8, 3, socket.MSG_WAITALL)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    request = json.loads(connection.recv(int.from_bytes(size), socket.MSG_WAITALL))
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.path[0] = request["folder"]
    threading.Thread(target=_obey, args=(connection,), daemon=True).start()
    status = 1
    try:
        module, *arguments = request["arguments"]
        sys.argv = [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    with contextlib.suppress(BrokenPipeError):
        connection.send(bytes([status % 256]))
    return status


def _obey(connection: socket.socket) -> None:
    while connection.recv(1) == INTERRUPT:
        os.killpg(0, signal.SIGINT)
    os.killpg(0, signal.SIGKILL)  # the stand-in is gone


def stand(module: str, *arguments: str) -> int:
    """Have `python -m MODULE ARGUMENTS` run in a fork, or become it; return its exit status."""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(os.environ[VARIABLE])
        except (KeyError, OSError):
            os.execv(sys.executable, [sys.executable, "-m", module, *arguments])
        request = {"arguments": [module, *arguments], "environment": dict(os.environ), "folder": str(Path.cwd())}
        message = json.dumps(request).encode()
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # none before the fork can be told of it
        socket.send_fds(connection, [len(message).to_bytes(8)], [0, 1, 2])
        connection.sendall(message)
        signal.signal(signal.SIGINT, lambda *_: connection.send(INTERRUPT))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        parent = os.getppid()
        while os.getppid() == parent:
            if select.select([connection], [], [], 1)[0]:
                status = connection.recv(1)
                return status[0] if status else 1  # none from a fork that was killed
    return 1


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["-m", module, *arguments]:
            sys.exit(stand(module, *arguments))
        case [number]:
            serve(socket.socket(fileno=int(number)))
