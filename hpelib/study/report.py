"""The index page of reports/, from the evaluations."""

import sys
from pathlib import Path

import pandas as pd

from hpelib.study import claims, tables
from hpelib.study.config import all_datasets, load_params

CLAIMS = Path("reports/claims/claims.csv")

HEAD = """# What the study found

Every number on these pages comes from a run that `dvc.lock` records; `dvc repro` makes them anew. Generated: edit
`hpelib/study/report.py`, not this page.

Networks are compared under one recipe and one codec each dataset, on people that no network has seen in training.
**Profile `{profile}`**{caveat}
"""
QUICK_CAVEAT = (
    ": narrow networks on small pictures of rendered people, trained for about a minute on one core. These tables "
    "show how the study works and how networks of that size compare on that data. They are **not comparable to any "
    "paper's figures** and say nothing yet about the networks at full size."
)

PAPERS = """
## Do the papers' claims hold?

{answer} [The ledger](claims/claims.md): every quantitative claim, the paper's difference beside ours with its interval,
and a verdict by one rule. The papers' tables, their figures and ours side by side, with every row of every ablation:
{pages}.

## One thing made harder at a time

[The same people, more and more hidden, crowded, small, blurred, dark or turned](stress/stress.md), and what each
network makes of it: [curves](stress/curves.png), [the pictures](stress/levels.png).
"""

RENDERED = """- [The data]({dataset}/data/data.ipynb): [people]({dataset}/data/contact_sheet.png), \
[scenes]({dataset}/data/scenes.png)
- [Heatmaps]({dataset}/heatmaps/heatmaps.ipynb): [where the networks disagree \
most]({dataset}/heatmaps/most_disputed.png)
"""
PHOTOGRAPHED = """- Pictures of these people stay on the machine that made them, in `reports/{dataset}/data` and \
`reports/{dataset}/heatmaps`.
"""

TAIL = """
## The networks at full size

[What the papers print of their networks' parameters and GFLOPs, and what ours have](sizes/sizes.md), every network and
ablation row counted by one counter in both units.

## Speed

[Against MMPose, timm, pycocotools and plain loops, and how time and memory grow](benchmarks.md): measured by
`make bench` on one machine, beside the pipeline.
"""


def index(params: dict) -> str:
    """The page as Markdown."""
    caveat = QUICK_CAVEAT if params["profile"] == "quick" else "."
    parts = [HEAD.format(profile=params["profile"], caveat=caveat)]
    parts += [dataset_section(params, dataset) for dataset in all_datasets(params)]
    pages = ", ".join(f"[{paper}](papers/{paper}/tables.md)" for paper in params["ablations"])
    answer = claims.answer(pd.read_csv(CLAIMS))
    return "\n".join([*parts, PAPERS.format(answer=answer, pages=pages), TAIL])


def dataset_section(params: dict, dataset: str) -> str:
    """One dataset: what it is, the results, and where to look further."""
    evaluations = tables.collect(params, dataset)
    errors = f"- [Kinds of error]({dataset}/errors/errors.md)\n" if dataset in params["error_datasets"] else ""
    return f"""
## {dataset}

{tables.describe(evaluations)}

{tables.results_table(evaluations).to_markdown()}

{tables.order_statement(evaluations)} {tables.control_statement(params, dataset)}

![{tables.interval_label(evaluations)} of every network against its multiply-accumulates and parameters, with \
intervals]({dataset}/tables/cost.png)

- [All tables and charts]({dataset}/tables/tables.ipynb) ([Markdown]({dataset}/tables/results.md), \
[CSV]({dataset}/tables/results.csv))
{(RENDERED if tables.are_rendered(evaluations) else PHOTOGRAPHED).format(dataset=dataset)}{errors}"""


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(index(load_params()))
