"""Which kinds of error the networks make on one dataset, and what each kind costs.

`hpelib.metrics.errors` says what the kinds are.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hpelib.data.crops import crop_person, to_crop
from hpelib.data.people import People
from hpelib.figures.errors import ErrorExample
from hpelib.formats.coco import FORMAT as COCO
from hpelib.metrics.errors import ERRORS, KINDS, Diagnosis, diagnose, repair
from hpelib.study.config import Run, networks_on, study_runs
from hpelib.study.evaluation import Evaluation, load
from hpelib.study.results.comparisons import scored_people

ALL = "All"  # the joint group of all keypoints
METRIC = COCO.main_metric


@dataclass(frozen=True)
class Diagnosed:
    """The test people of one dataset, what every network predicted of them, and of what kind each keypoint is."""

    run: Run  # of the first network and seed
    people: People
    evaluations: dict[str, Evaluation]  # by network
    diagnoses: dict[str, list[Diagnosis]]  # by network, one for each seed

    @staticmethod
    def of(params: dict, dataset: str) -> "Diagnosed":
        """Diagnose all networks on `dataset` under the current profile.

        Raises:
            FileNotFoundError: a network was not evaluated.
            ValueError: the dataset has no keypoint similarity to tell the kinds apart by, or its annotations changed
                after a network was evaluated.
        """
        runs = {network: study_runs(params, network, dataset)[0] for network in networks_on(params, dataset)}
        first = next(iter(runs.values()))
        if first.dataset.format != COCO.name:
            raise ValueError(f"{dataset} has format {first.dataset.format}; kinds of error need COCO's similarity")
        people = scored_people(first.dataset)
        evaluations = {network: load(run.evaluation) for network, run in runs.items()}
        for network, evaluation in evaluations.items():
            if evaluation.summary.persons != len(people):
                raise ValueError(
                    f"{network} was evaluated on {evaluation.summary.persons} persons, but {dataset} has {len(people)} "
                    "for testing; run: dvc repro evaluate"
                )
        truth = people.keypoints, people.areas, people.image_ids
        diagnoses = {
            network: [diagnose(keypoints, *truth, people.skeleton) for keypoints in evaluation.keypoints]
            for network, evaluation in evaluations.items()
        }
        return Diagnosed(first, people, evaluations, diagnoses)


def shares(diagnosed: Diagnosed) -> pd.DataFrame:
    """How frequent each kind is: columns name, seed, joint, kind and share, in percent of the labelled keypoints.

    Joints are a joint group, or `ALL`.
    """
    rows = []
    for network, diagnoses in diagnosed.diagnoses.items():
        for seed, diagnosis in zip(diagnosed.evaluations[network].summary.seeds, diagnoses, strict=True):
            for joint, members in {ALL: slice(None), **diagnosed.people.skeleton.groups}.items():
                kinds = diagnosis.kinds[:, members]
                counts = np.bincount(kinds[kinds >= 0], minlength=len(KINDS))
                percent = 100 * counts / counts.sum()
                rows += [(network, seed, joint, kind, share) for kind, share in zip(KINDS, percent, strict=True)]
    return pd.DataFrame(rows, columns=["name", "seed", "joint", "kind", "share"])


def gains(diagnosed: Diagnosed) -> pd.DataFrame:
    """What AP would be without one kind of error: columns name, seed, kind, AP_gt (percent) and gain (points).

    One kind is repaired at a time. Confidences stay as they are, and OKS-NMS is run again.
    """
    people, run = diagnosed.people, diagnosed.run
    rows = []
    for network, evaluation in diagnosed.evaluations.items():
        for i, seed in enumerate(evaluation.summary.seeds):
            case = evaluation.keypoints[i], people.keypoints, people.areas, diagnosed.diagnoses[network][i]
            repaired = [repair(kind, *case, people.skeleton) for kind in ERRORS]
            matches = run.dataset.form.match(
                run.dataset, people, people, repaired, evaluation.confidences[i], run.test.nms
            )
            aps = [float(found.figures(names=["AP"])["AP"][0]) for found in matches]
            before = evaluation.values(METRIC)[i]
            rows += [(network, seed, kind, ap, ap - before) for kind, ap in zip(ERRORS, aps, strict=True)]
    return pd.DataFrame(rows, columns=["name", "seed", "kind", METRIC, "gain"])


def examples(diagnosed: Diagnosed, network: str, count: int = 4) -> list[ErrorExample]:
    """The `count` most typical cases of each kind, on different people, under the first seed of `network`.

    The most typical case is the one that lies nearest to the median similarity of its kind. A kind that fewer than
    `count` people have has fewer examples.
    """
    people, diagnosis = diagnosed.people, diagnosed.diagnoses[network][0]
    keypoints = diagnosed.evaluations[network].keypoints[0]
    found = []
    for kind in ERRORS:
        persons, joints = np.nonzero(diagnosis.kinds == KINDS.index(kind))
        cases = pd.DataFrame({"person": persons, "joint": joints, "similarity": diagnosis.similarity[persons, joints]})
        distances = (cases["similarity"] - cases["similarity"].median()).abs().sort_values(kind="stable")
        for case in cases.loc[distances.index].drop_duplicates("person").head(count).itertuples():
            crop = crop_person(people, case.person, diagnosed.run.inputs)
            predicted = to_crop(keypoints[case.person], crop.matrix)[case.joint]
            found.append(ErrorExample(kind, case.joint, crop, predicted))
    return found
