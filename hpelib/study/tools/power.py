"""What it takes to see a gain: from the variances that the study measured.

    python -m hpelib.study.tools.power 0.3 --dataset coco --metric AP_det --profile evening

says how many test persons and seeds show a true gain of 0.3 points four times in five, two-sided at 5 %. It reads
reports/PROFILE/claims/claims.csv, by default of the profile in params.yaml. A profile of one seed measures no variance.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from hpelib.metrics.statistics import NOT_RUN, NOT_TESTABLE
from hpelib.study.config import load_params
from hpelib.study.results import claims


def power(ledger: pd.DataFrame, claimed: float, dataset: str, metric: str) -> pd.DataFrame:
    """One line of `claims.power_table`, for a gain of one's own.

    Raises:
        ValueError: the gain is not positive, or the ledger has no tested difference of this metric on this dataset.
    """
    if not claimed > 0:
        raise ValueError(f"a gain must be positive percentage points, got {claimed}")
    tested = ledger[ledger["seed_sd"].notna() & ~ledger["verdict"].isin([NOT_RUN, NOT_TESTABLE])]
    rows = tested[(tested["dataset"] == dataset) & (tested["metric"] == metric)]
    if rows.empty:
        known = tested[["metric", "dataset"]].drop_duplicates()
        pairs = ", ".join(f"{row.metric} on {row.dataset}" for row in known.itertuples())
        raise ValueError(
            f"no difference of {metric} on {dataset} was tested; tested are: {pairs or 'none'}; `--profile` names "
            "another profile with recorded results"
        )
    return claims.power_table(rows.assign(claimed=claimed, kind="claim"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("gain", type=float, help="percentage points")
    parser.add_argument("--dataset", default="coco")
    parser.add_argument("--metric", default="AP_det")
    parser.add_argument("--profile", default=load_params()["profile"])
    given = parser.parse_args()
    path = Path("reports") / given.profile / "claims/claims.csv"
    table = power(pd.read_csv(path), given.gain, given.dataset, given.metric)
    shown = table.replace(np.inf, np.nan).T
    print(shown.to_string(header=False, float_format="{:.4g}".format, na_rep="no number is enough"))
