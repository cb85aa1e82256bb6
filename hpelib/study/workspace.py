"""Where the study lives on disk."""

import os
from pathlib import Path


def enter() -> Path:
    """Make the repository's root the working directory, from wherever a notebook was opened, and return it."""
    root = Path(__file__).resolve().parents[2]
    os.chdir(root)
    return root
