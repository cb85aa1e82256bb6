"""Kinds of keypoint errors on COCO's keypoints: near misses, mixed-up sides, mixed-up people, and the rest.

Source: Ronchi and Perona, "Benchmarking and Error Diagnosis in Multi-Instance Pose Estimation" (ICCV 2017), section 3,
with the rules of their public code (coco-analyze, `COCOanalyze._find_kpt_errors`). There a prediction is matched to a
person at OKS 0.1; here, predicted from annotated boxes, each is of the person whose box it is, so none is left out.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hpelib.metrics.coco import keypoint_similarity
from hpelib.skeletons import COCO17

KINDS = ("good", "jitter", "inversion", "swap", "miss")
ERRORS = KINDS[1:]
GOOD_SIMILARITY = 0.85
NEAR_SIMILARITY = 0.5


@dataclass(frozen=True)
class Diagnosis:
    """What each keypoint of N persons is, and how near it is to the annotated keypoint that it is nearest to."""

    kinds: np.ndarray  # (N, 17) int8 position in KINDS, -1 where not labelled
    similarity: np.ndarray  # (N, 17) 0 to 1; NaN where not labelled


def diagnose(keypoints: np.ndarray, truth: np.ndarray, areas: np.ndarray, image_ids: np.ndarray) -> Diagnosis:
    """The kind of every labelled keypoint, by the annotated keypoint that it is most similar to.

    Candidates are the keypoint itself, its left or right counterpart, and both of every other person in the image,
    each at its own person's scale. Below 0.5 to all it is a miss; else a swap if it is nearest to another person's,
    an inversion if to its counterpart, and if to itself good from 0.85 on and jitter below. Equally near, the
    keypoint itself comes first, then its counterpart.

    Shapes: keypoints and truth (N, 17, 2) image px, truth NaN where not labelled, areas (N,) px^2, image_ids (N,).
    """
    mirrored = truth[:, COCO17.flip_permutation]
    own = keypoint_similarity(keypoints, truth, areas)  # (N, 17)
    counterpart = keypoint_similarity(keypoints, mirrored, areas)
    others = np.full_like(own, -1)
    person, other = _pairs(image_ids)
    for candidates in (truth, mirrored):
        similarity = keypoint_similarity(keypoints[person], candidates[other], areas[other])  # (P, 17)
        np.maximum.at(others, person, np.nan_to_num(similarity, nan=-1))
    candidates = np.stack((own, np.nan_to_num(counterpart, nan=-1), others))  # (3, N, 17)
    labelled = ~np.isnan(own)
    nearest = np.where(labelled, candidates.max(0), np.nan)
    own_kind = np.where(nearest >= GOOD_SIMILARITY, KINDS.index("good"), KINDS.index("jitter"))
    kinds = np.choose(candidates.argmax(0), (own_kind, KINDS.index("inversion"), KINDS.index("swap")))
    kinds[nearest < NEAR_SIMILARITY] = KINDS.index("miss")
    kinds[~labelled] = -1
    return Diagnosis(kinds.astype(np.int8), nearest)


def repair(kind: str, keypoints: np.ndarray, truth: np.ndarray, areas: np.ndarray, diagnosis: Diagnosis) -> np.ndarray:
    """`keypoints` with those of one kind of error put where they would be without it; (N, 17, 2) image px.

    Jitter and misses move to the edge of what would be good and near, inversions and swaps as near to the right
    keypoint as they are to the wrong one; all to the right of the truth, at the distance sqrt(-2 area ln s) sigma for
    the similarity s. This is coco-analyze's rule: with sigma where OKS has 2 sigma, the keypoint's similarity
    afterwards is the fourth root of s (0.96 after jitter, 0.84 after a miss).

    Raises ValueError for an unknown kind.
    """
    if kind not in ERRORS:
        raise ValueError(f"unknown kind of error {kind!r}, choose from {', '.join(ERRORS)}")
    members = diagnosis.kinds == KINDS.index(kind)
    persons, joints = np.nonzero(members)
    similarity = {"jitter": GOOD_SIMILARITY, "miss": NEAR_SIMILARITY}.get(kind, diagnosis.similarity[members])
    repaired = keypoints.copy()
    repaired[members] = truth[members]
    repaired[persons, joints, 0] += np.sqrt(-2 * np.log(similarity) * areas[persons]) * np.array(COCO17.sigmas)[joints]
    return repaired


def _pairs(image_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every person (P,) with every other person (P,) in the same image."""
    persons = pd.DataFrame({"image": image_ids, "person": np.arange(len(image_ids))})
    pairs = persons.merge(persons, on="image", suffixes=("", "_other"))
    pairs = pairs[pairs["person"] != pairs["person_other"]]
    return pairs["person"].to_numpy(), pairs["person_other"].to_numpy()
