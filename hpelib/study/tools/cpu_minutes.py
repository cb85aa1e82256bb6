"""A page of accuracy against CPU minutes of training, for every network of the current profile.

    python -m hpelib.study.tools.cpu_minutes

writes reports/PROFILE/cpu_minutes.md with a chart and a table, from the evaluations and from what `make study` noted in
work/PROFILE/cpu.csv. It also prints what a stage of each kind took, for `stage_s` of the profile. It is no stage of the
pipeline: minutes differ from run to run, and all other pages stay as they are.
"""

from pathlib import Path

import pandas as pd

from hpelib.figures.curves import accuracy_against_minutes
from hpelib.figures.style import save
from hpelib.study.command import call
from hpelib.study.config import load_params, work_folder
from hpelib.study.results.comparisons import Study
from hpelib.study.results.measurements import describe
from hpelib.study.results.tables import Comparison

INTRODUCTION = """# Accuracy against CPU minutes

What training a network costs on this machine, and what it reaches: the mean over seeds. Minutes are those of one core,
for one training, with its pages and its validation. They hold for this machine and for how busy it was.
"""


def read_cpu(folder: Path) -> pd.DataFrame:
    """The last time of every stage: columns stage, kind and cpu_s.

    Raises:
        FileNotFoundError: `make study` has run nothing of this profile here.
    """
    path = folder / "cpu.csv"
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found: `make study` writes it while it runs stages")
    times = pd.read_csv(path, names=["stage", "cpu_s"]).drop_duplicates("stage", keep="last")
    return times.assign(kind=times["stage"].str.partition("@")[0]).reset_index(drop=True)


def measure(compared: Comparison, times: pd.DataFrame) -> pd.DataFrame:
    """A row for each network that was evaluated and timed: name, value (the main figure), minutes, params and macs."""
    cpu_s, rows = times.set_index("stage")["cpu_s"], []
    for network, evaluation in compared.evaluations.items():
        size = evaluation.summary
        items = [f"{size.dataset}-{network}-{seed}" for seed in size.seeds]
        taken = cpu_s.reindex([f"{kind}@{item}" for kind in ("train", "train_extra") for item in items]).dropna()
        if len(taken):
            row = {"name": network, "value": compared.main[network].mean(), "minutes": taken.mean() / 60}
            rows.append(row | {"params": size.params, "macs": size.macs})
    return pd.DataFrame(rows, columns=["name", "value", "minutes", "params", "macs"])


def main() -> None:
    params = load_params()
    times, folder = read_cpu(work_folder(params)), Path("reports") / params["profile"]
    lines = [INTRODUCTION]
    for dataset in params["all_datasets"]:
        compared = Comparison.read(Study(params), dataset)
        found, summary = measure(compared, times), compared.summary
        if found.empty:
            continue
        metric = summary.form.main_metric
        save(accuracy_against_minutes(found, f"{metric} (%)"), folder / f"cpu_minutes_{dataset}.png")
        cells = found.assign(params=found["params"] / 1e6, macs=found["macs"] / 1e6)
        names = ["network", f"{metric} (%)", "CPU minutes of a training", "params (M)", "MACs (M)"]
        table = cells.set_axis(names, axis=1).to_markdown(index=False, floatfmt=("", ".1f", ".2f", ".3f", ".1f"))
        lines.append(f"## {dataset}\n\n{describe(summary)}\n\n![{metric}](cpu_minutes_{dataset}.png)\n\n{table}\n")
    (folder / "cpu_minutes.md").write_text("\n".join(lines), encoding="utf-8")
    print(times.groupby("kind")["cpu_s"].agg(["size", "mean", "sum"]).round(1).to_string())
    print(f"all stages: {times['cpu_s'].sum() / 3600:.2f} core-hours; see {folder / 'cpu_minutes.md'}")


if __name__ == "__main__":
    call(main)
