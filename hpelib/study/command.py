"""How the steps of the study are called: `python -m hpelib.study.steps.train hrnet coco 0`."""

import inspect
import sys
from collections.abc import Callable


def call(main: Callable) -> None:
    """Call `main` with the words of the command line.

    Where they are too few or too many, the command ends and says what `main` takes, such as "usage: python -m
    hpelib.study.steps.train NETWORK DATASET SEED [LABELS]".
    """
    signature, words = inspect.signature(main), sys.argv[1:]
    try:
        signature.bind(*words)
    except TypeError:
        takes = [
            one.name.upper() if one.default is one.empty else f"[{one.name.upper()}]"
            for one in signature.parameters.values()
        ]
        module = sys.modules["__main__"].__spec__.name
        sys.exit(f"usage: python -m {module} {' '.join(takes)}")
    main(*words)
