"""Which kinds of error the networks of one dataset make, and what each kind costs: what the errors notebook calls."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hpelib.data.crops import to_crop
from hpelib.data.loader import Crops
from hpelib.data.people import People
from hpelib.figures.errors import ErrorExample
from hpelib.formats import FORMATS
from hpelib.metrics.errors import ERRORS, KINDS, Diagnosis, diagnose, repair
from hpelib.study.config import Run, networks_on, study_runs
from hpelib.study.evaluation import Evaluation, load
from hpelib.study.results.tables import describe_cells, mean_and_sd
from hpelib.study.steps.evaluate import test_people

ALL = "All"  # the row that is about every joint
METRIC = FORMATS["coco"].main_metric
EXPLANATION = f"""\
By the annotated keypoint that a predicted one is most similar to: **good** from 0.85 on and **jitter** from 0.5 on if \
it is the right one, **inversion** if it is the same person's on the other side, **swap** if it is another person's; \
**miss** below 0.5 to all of these (Ronchi and Perona, ICCV 2017). Predicted from annotated boxes. Gains are the \
points of {METRIC} that a network would have more if one kind alone were repaired, by the rule of the authors' code: a \
jittered keypoint moves to a similarity of 0.96 to the truth, a missed one to 0.84, an inverted or swapped one to the \
fourth root of its similarity to the wrong keypoint. Gains do not add up."""


@dataclass(frozen=True)
class Diagnosed:
    """The test people of one dataset and, for every network, a diagnosis of what it predicted, seed by seed."""

    run: Run  # the first
    people: People
    evaluations: dict[str, Evaluation]
    diagnoses: dict[str, list[Diagnosis]]

    @staticmethod
    def of(params: dict, dataset: str) -> "Diagnosed":
        """The diagnoses of the current profile; every network must have been evaluated.

        Raises:
            ValueError: the dataset has no keypoint similarity, by which kinds are told apart.
        """
        runs = {network: study_runs(params, network, dataset)[0] for network in networks_on(params, dataset)}
        first = next(iter(runs.values()))
        if first.dataset.format != "coco":
            raise ValueError(f"{dataset} has format {first.dataset.format}; kinds of error need COCO's similarity")
        people = test_people(first)
        evaluations = {network: load(run.evaluation) for network, run in runs.items()}
        diagnoses = {
            network: [
                diagnose(keypoints, people.keypoints, people.areas, people.image_ids)
                for keypoints in evaluation.keypoints
            ]
            for network, evaluation in evaluations.items()
        }
        return Diagnosed(first, people, evaluations, diagnoses)


def shares(diagnosed: Diagnosed) -> pd.DataFrame:
    """How frequent each kind is: columns name, seed, joint ("All" or a group), kind, share (% of labelled)."""
    skeleton = diagnosed.people.skeleton
    rows = []
    for network, diagnoses in diagnosed.diagnoses.items():
        seeds = diagnosed.evaluations[network].summary["seeds"]
        for seed, diagnosis in zip(seeds, diagnoses, strict=True):
            for joint, members in {ALL: tuple(range(skeleton.num_keypoints)), **skeleton.groups}.items():
                kinds = diagnosis.kinds[:, members]
                counts = np.bincount(kinds[kinds >= 0], minlength=len(KINDS))
                rows += [
                    {"name": network, "seed": seed, "joint": joint, "kind": kind, "share": share}
                    for kind, share in zip(KINDS, 100 * counts / counts.sum(), strict=True)
                ]
    return pd.DataFrame(rows)


def gains(diagnosed: Diagnosed) -> pd.DataFrame:
    """What AP would be without one kind of error: columns name, seed, kind, AP_gt (percent), gain (points).

    One kind at a time, all others left as they are; scores stay, OKS-NMS is run again.
    """
    people, dataset = diagnosed.people, diagnosed.run.dataset
    rows = []
    for network, evaluation in diagnosed.evaluations.items():
        figures = evaluation.figures.query("metric == @METRIC").set_index("seed")["value"]
        for i, seed in enumerate(evaluation.summary["seeds"]):
            for kind in ERRORS:
                diagnosis = diagnosed.diagnoses[network][i]
                repaired = repair(kind, evaluation.keypoints[i], people.keypoints, people.areas, diagnosis)
                value = FORMATS["coco"].figures(dataset, people, repaired, evaluation.confidences[i])[METRIC]
                rows.append({"name": network, "seed": seed, "kind": kind, METRIC: value, "gain": value - figures[seed]})
    return pd.DataFrame(rows)


def share_table(shares: pd.DataFrame) -> pd.DataFrame:
    """One row per network: each kind as mean and standard deviation over seeds, in % of the labelled keypoints."""
    return _over_seeds(shares[shares["joint"] == ALL], ["name"], "share")


def joint_table(shares: pd.DataFrame) -> pd.DataFrame:
    """`share_table` for every joint group: one row per group and network."""
    return _over_seeds(shares[shares["joint"] != ALL], ["joint", "name"], "share").reset_index()


def mean_shares(shares: pd.DataFrame) -> pd.DataFrame:
    """`shares` as means over seeds, for charts: columns joint, name, kind, share."""
    return shares.groupby(["joint", "name", "kind"], sort=False, as_index=False)["share"].mean()


def gain_table(gains: pd.DataFrame) -> pd.DataFrame:
    """One row per network: points of AP that it would gain without each kind, over seeds."""
    return _over_seeds(gains, ["name"], "gain")


def examples(diagnosed: Diagnosed, network: str, count: int = 4) -> list[ErrorExample]:
    """The `count` most typical cases of each kind under the first seed of `network`, on different people.

    Typical is what lies nearest to the kind's median similarity. A kind that is rarer has fewer.
    """
    people, diagnosis = diagnosed.people, diagnosed.diagnoses[network][0]
    crops = Crops(people, diagnosed.run.inputs, train=False)
    found = []
    for kind in ERRORS:
        persons, joints = np.nonzero(diagnosis.kinds == KINDS.index(kind))
        if not len(persons):
            continue
        similarity = diagnosis.similarity[persons, joints]
        order = np.argsort(np.abs(similarity - np.median(similarity)), kind="stable")
        _, first = np.unique(persons[order], return_index=True)
        for case in order[np.sort(first)[:count]]:
            person, joint = persons[case], joints[case]
            drawn = crops[0, np.array([person])]
            keypoints = diagnosed.evaluations[network].keypoints[0, person]
            predicted = to_crop(keypoints[None], drawn["matrices"])[0, joint]
            found.append(
                ErrorExample(kind, joint, drawn["images"][0], drawn["keypoints"][0], drawn["visible"][0], predicted)
            )
    return found


def save(diagnosed: Diagnosed, shares: pd.DataFrame, gains: pd.DataFrame, folder: Path) -> None:
    """Write shares.csv, gains.csv and, for a reader, errors.md into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in {"shares": shares, "gains": gains}.items():
        table.to_csv(folder / f"{name}.csv", index=False, float_format="%.4f")
    tables = {
        "Share of each kind (% of labelled keypoints)": share_table(shares).to_markdown(),
        f"Points of {METRIC} gained without each kind": gain_table(gains).to_markdown(),
        "Share of each kind by joint group (%)": joint_table(shares).to_markdown(index=False),
    }
    parts = ["# Kinds of error", EXPLANATION, describe_cells(diagnosed.evaluations)]
    parts += [f"## {title}\n\n{table}" for title, table in tables.items()]
    (folder / "errors.md").write_text("\n\n".join(parts) + "\n")


def _over_seeds(table: pd.DataFrame, rows: list[str], column: str) -> pd.DataFrame:
    return table.pivot_table(index=rows, columns="kind", values=column, aggfunc=mean_and_sd, sort=False).rename_axis(
        columns=None
    )
