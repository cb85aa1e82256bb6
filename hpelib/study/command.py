"""How the steps of the study are called: `python -m hpelib.study.steps.train hrnet coco 0`."""

import inspect
import sys
from collections.abc import Callable


def call(main: Callable) -> None:
    """Call `main` with the words of the command line. Of an argument that is an `int`, the word becomes a number.

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
    arguments = list(signature.parameters.values())
    for i, (argument, word) in enumerate(zip(arguments, words, strict=False)):
        if argument.annotation is int:
            if not word.isdecimal():
                sys.exit(f"{argument.name.upper()} must be a whole number, got {word!r}")
            words[i] = int(word)
    main(*words)
