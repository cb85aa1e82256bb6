"""What the steps of the study say when they are called with too few or too many words."""

import subprocess
import sys

import pytest

from hpelib.study.command import call


def step(network: str, seed: int, labels: str = "true") -> None:
    if seed == 7:
        raise ValueError("seven")
    print(f"{network} {seed + 1} {labels}")


def test_main_gets_the_words(monkeypatch, capsys):
    for words, said in ((["hrnet", "0"], "hrnet 1 true"), (["hrnet", "0", "shuffled"], "hrnet 1 shuffled")):
        monkeypatch.setattr(sys, "argv", ["step", *words])
        call(step)
        assert capsys.readouterr().out.strip() == said


def test_an_error_of_main_is_its_own(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["step", "hrnet", "7"])
    with pytest.raises(ValueError, match="seven"):
        call(step)


@pytest.mark.parametrize("word", ["zero", "-1", "1.5"])
def test_a_word_that_is_no_number_is_named(monkeypatch, word):
    monkeypatch.setattr(sys, "argv", ["step", "hrnet", word])
    with pytest.raises(SystemExit, match=f"SEED must be a whole number, got '{word}'"):
        call(step)


@pytest.mark.parametrize(
    ("words", "usage"),
    [
        (["hpelib.study.steps.prepare"], "hpelib.study.steps.prepare DATASET"),
        (["hpelib.study.results.index", "a", "b"], "hpelib.study.results.index PAGE"),
    ],
)
def test_too_few_or_too_many_words_end_with_the_usage(words, usage):
    ended = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.strip() == f"usage: python -m {usage}"
