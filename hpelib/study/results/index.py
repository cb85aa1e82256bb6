"""The index page of reports/, from the evaluations."""

import sys
from pathlib import Path

import pandas as pd

from hpelib.records import records
from hpelib.study.config import all_datasets, load_params
from hpelib.study.results import claims, tables

CLAIMS = Path("reports/claims/claims.csv")

HEAD = """# What the study found

Every number on these pages comes from a run that `dvc.lock` records; `make study` makes them anew{but}. Generated:
edit `hpelib/study/report.py`, not this page.

Networks are compared under one recipe and one codec each dataset, on people that no network has seen in training.
**Profile `{profile}`**{caveat}
"""
QUICK_CAVEAT = (
    ": narrow networks on small pictures of rendered people, trained for about a minute on one core. These tables "
    "show how the study works and how networks of that size compare on that data. They are **not comparable to any "
    "paper's figures** and say nothing yet about the networks at full size."
)

LSPET = Path("reports/lspet/tables/results.md")
BUT_LSPET = (
    ", but for those on [real people](lspet/tables/results.md), whose data set is named on the command line "
    "([how](../docs/photographs.md))"
)

PAPERS = """
## Do the papers' claims hold?

{answer} [The ledger](claims/claims.md): what the papers claim in figures of their networks, against others of this
study and against their own without a part, the paper's difference beside ours with its interval, and a verdict by one
rule. For each paper its tables, printed figures and ours side by side with every row of every ablation; what its
network does inside, beside its baseline; and what the paper leaves open, with how it was decided:

{pages}

## One thing made harder at a time

[The same people, more and more hidden, crowded, small, blurred, dark or turned](stress/stress.md), and what each
network makes of it: [curves](stress/curves.png), [the pictures](stress/levels.png).
"""

PAPER = (
    "- {title}: [tables](papers/{paper}/tables.md), [what it does inside](figures/{paper}/paper_figures.ipynb), "
    "[what the paper leaves open](../docs/ledger_{paper}.md)"
)

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
    but = BUT_LSPET if LSPET.is_file() and "lspet" not in all_datasets(params) else ""
    parts = [HEAD.format(profile=params["profile"], caveat=caveat, but=but)]
    parts += [dataset_section(params, dataset) for dataset in all_datasets(params)]
    pages = "\n".join(PAPER.format(paper=paper, title=records()[paper].title) for paper in params["ablations"])
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
