"""Processes that end when what started them is killed, so that no training outlives its experiment."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.connection import wait

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """End this process when its parent ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def die_with_caller() -> None:
    """End this process, which `multiprocessing` has started, when the process that asked for it ends.

    The parent of a fork is the forkserver. It lives as long as one of its forks, so the caller must be watched too.
    """
    die_with_parent()
    threading.Thread(target=_wait_for_caller, daemon=True).start()


def _wait_for_caller() -> None:
    wait([multiprocessing.parent_process().sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
