"""The index page of a profile's reports."""

import os
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from hpelib.metrics.statistics import how_often
from hpelib.records import records
from hpelib.study.command import call
from hpelib.study.config import load_params, networks_on
from hpelib.study.results import claims, tables
from hpelib.study.results.comparisons import Study

TEMPLATE = "index.md.j2"  # beside this file


def index(params: dict, folder: Path) -> str:
    """The page as Markdown, for `folder`, which holds the pages that it links to and claims/claims.csv."""
    study, found = Study(params), pd.read_csv(folder / "claims/claims.csv")
    datasets = [*params["datasets"], *params["extra"]["datasets"]]
    evaluated = [name for name in datasets if any(study.find(network, name) for network in networks_on(params, name))]
    loader = PackageLoader("hpelib.study", "results")
    template = Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True).get_template(TEMPLATE)
    comparisons = {dataset: tables.Comparison.read(study, dataset) for dataset in evaluated}
    return template.render(
        params=params,
        comparisons=comparisons,
        often=how_often(seeds for each in comparisons.values() for seeds in each.seeds_compared),
        missing=[dataset for dataset in datasets if dataset not in evaluated],
        answer=claims.answer(found),
        size_answer=claims.size_answer(found),
        detectable=claims.detectable(found),
        tally=claims.tally(found).to_markdown(),
        to_decide=claims.to_decide(found),
        papers={paper: records()[paper].title for paper in params["ablations"]},
        has_photographs=(folder / "lspet/tables/tables.ipynb").is_file() and "lspet" not in datasets,
        root=os.path.relpath(".", folder),
    )


def main(page: str) -> None:
    Path(page).write_text(index(load_params(), Path(page).parent), encoding="utf-8")


if __name__ == "__main__":
    call(main)
