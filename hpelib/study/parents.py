"""Processes of the study end when what started them is killed, so that no training outlives its experiment."""

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


def die_with_study() -> None:
    """End this process, a fork of the study's forkserver, when the forkserver or the study ends.

    The forkserver is the parent. It lives as long as one of its forks, so the study itself must be watched too.
    """
    die_with_parent()
    threading.Thread(target=_wait_for_study, daemon=True).start()


def _wait_for_study() -> None:
    wait([multiprocessing.parent_process().sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
