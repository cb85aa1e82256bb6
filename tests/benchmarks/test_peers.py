import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.mmpose_client import NAME
from benchmarks.peers import METRICS, OURS, compare, require_equal_sizes


def test_two_sides_are_compared_over_their_seeds():
    ours, theirs = np.array([10.0, 12.0, 11.0]), np.array([9.0, 9.5, 13.0])
    rows = [
        {"side": side, "seed": seed, **dict.fromkeys(METRICS, value)}
        for side, values in ((OURS, ours), (NAME, theirs))
        for seed, value in enumerate(values)
    ]
    cells = compare(pd.DataFrame(rows)).set_index("figure").loc["AP_gt"]
    assert cells[OURS] == "11.0 ± 1.0"
    assert cells[NAME] == "10.5 ± 2.2"
    difference, low, high = (
        float(word) for word in cells["difference"].replace("[", "").strip("]").replace(",", "").split()
    )
    se = np.sqrt(ours.var(ddof=1) / 3 + theirs.var(ddof=1) / 3)  # Welch
    df = se**4 / ((ours.var(ddof=1) / 3) ** 2 / 2 + (theirs.var(ddof=1) / 3) ** 2 / 2)
    reach = stats.t.ppf(0.975, df) * se
    assert difference == 0.5
    assert (low, high) == (pytest.approx(0.5 - reach, abs=0.06), pytest.approx(0.5 + reach, abs=0.06))


def test_networks_of_two_sizes_are_not_compared():
    figures = pd.DataFrame({"side": [OURS, NAME], "params": [816273, 816273]})
    require_equal_sizes(figures)
    with pytest.raises(ValueError, match="801153"):
        require_equal_sizes(figures.assign(params=[816273, 801153]))
