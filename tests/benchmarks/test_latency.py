import pandas as pd

from benchmarks import latency
from benchmarks.latency import BATCH_SIZES, measure, table


def test_every_network_is_measured_at_every_batch_size(monkeypatch):
    monkeypatch.setattr(latency, "BATCH_SIZES", (1, 2))
    tiny = ("hourglass", {"stacks": 1, "widths": [8, 8], "blocks": [1, 1]})
    costs = measure({"small": tiny}, (32, 64), "cpu")
    assert costs[["network", "batch"]].to_numpy().tolist() == [["small", 1], ["small", 2]]
    assert (costs["latency_ms"] > 0).all()
    assert (costs["memory_mb"] > 10).all(), "PyTorch alone needs more"


def test_latency_is_the_median_of_passes_after_the_first(monkeypatch):
    seconds = iter([9.0, *[0.001, 0.005, 0.002, 0.004, 0.003] * 2])
    monkeypatch.setattr(latency, "_timed", lambda network, images: next(seconds))
    options = {"stacks": 1, "widths": [8, 8], "blocks": [1, 1]}
    latency_ms, _ = latency._measure("hourglass", options, 1, (32, 32), "cpu")
    assert latency_ms == 3
    assert next(seconds, None) is None


def test_the_table_has_a_row_per_network_in_their_order():
    rows = [(network, batch, 1.234 * batch, 100) for network in ("b", "a") for batch in BATCH_SIZES]
    text = table(pd.DataFrame(rows, columns=["network", "batch", "latency_ms", "memory_mb"]))
    assert text.index("| b ") < text.index("| a "), "in the order of params.yaml"
    assert "latency (ms), batch 32" in text
    assert "39.5" in text
