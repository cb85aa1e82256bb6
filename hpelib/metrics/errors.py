"""Kinds of keypoint errors on COCO's keypoints: near misses, mixed-up sides, mixed-up people, and lost keypoints.

Source: Ronchi and Perona, "Benchmarking and Error Diagnosis in Multi-Instance Pose Estimation" (ICCV 2017), section 3,
with the rules of their public code (coco-analyze, `COCOanalyze._find_kpt_errors`). One thing differs: they match a
prediction to a person by OKS, and leave out what reaches less than 0.1. Here predictions are made from annotated boxes,
so each belongs to the person whose box it is, and none is left out.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hpelib.layers.choices import require_choice
from hpelib.metrics.coco import keypoint_similarity
from hpelib.skeletons import COCO17, Skeleton

KINDS = ("good", "jitter", "inversion", "swap", "miss")
ERRORS = KINDS[1:]
GOOD_SIMILARITY = 0.85  # from here on a keypoint is good
NEAR_SIMILARITY = 0.5  # from here on it is near


@dataclass(frozen=True)
class Diagnosis:
    """The kind of every predicted keypoint of N persons."""

    kinds: np.ndarray  # (N, K) int8 position in KINDS, -1 where not labelled
    similarity: np.ndarray  # (N, K) to the most similar annotated keypoint, 0 to 1; NaN where not labelled


def diagnose(
    keypoints: np.ndarray,
    truth: np.ndarray,
    areas: np.ndarray,
    image_ids: np.ndarray,
    skeleton: Skeleton = COCO17,
) -> Diagnosis:
    """Find the kind of every labelled keypoint, by the annotated keypoint that the prediction is most similar to.

    Compared are: the right keypoint; its counterpart on the other side of the same person; and both of these of every
    other person in the image, each at the scale of its own person. Then a predicted keypoint is

    - a miss, if its similarity to all of them is below 0.5;
    - a swap, if it is most similar to a keypoint of another person;
    - an inversion, if it is most similar to the counterpart;
    - good from a similarity of 0.85 on and jitter below, if it is most similar to the right keypoint.

    Where two are equally similar, the right keypoint comes first, then its counterpart.

    Shapes: keypoints and truth (N, K, 2) image px, truth NaN where not labelled; areas (N,) px^2; image_ids (N,).
    """
    mirrored, sigmas = truth[:, skeleton.flip_permutation], skeleton.sigmas
    own = keypoint_similarity(keypoints, truth, areas, sigmas)  # (N, K)
    counterpart = keypoint_similarity(keypoints, mirrored, areas, sigmas)
    others = np.full_like(own, -1)
    persons = pd.DataFrame({"image": image_ids, "person": np.arange(len(image_ids))})
    pairs = persons.merge(persons, on="image").query("person_x != person_y")
    person, other = pairs["person_x"].to_numpy(), pairs["person_y"].to_numpy()  # (P,) of different persons in one image
    for candidates in (truth, mirrored):
        similarity = keypoint_similarity(keypoints[person], candidates[other], areas[other], sigmas)  # (P, K)
        np.maximum.at(others, person, np.nan_to_num(similarity, nan=-1))
    candidates = np.stack((own, np.nan_to_num(counterpart, nan=-1), others))  # (3, N, K)
    labelled = ~np.isnan(own)
    nearest = np.where(labelled, candidates.max(0), np.nan)
    own_kind = np.where(nearest >= GOOD_SIMILARITY, KINDS.index("good"), KINDS.index("jitter"))
    kinds = np.choose(candidates.argmax(0), (own_kind, KINDS.index("inversion"), KINDS.index("swap")))
    kinds[nearest < NEAR_SIMILARITY] = KINDS.index("miss")
    kinds[~labelled] = -1
    return Diagnosis(kinds.astype(np.int8), nearest)


def repair(
    kind: str,
    keypoints: np.ndarray,
    truth: np.ndarray,
    areas: np.ndarray,
    diagnosis: Diagnosis,
    skeleton: Skeleton = COCO17,
) -> np.ndarray:
    """Move all keypoints of one kind of error to where they would be without it, as coco-analyze does.

    A moved keypoint comes to lie to the right of the true one, at the distance sqrt(-2 area ln(s)) sigma. Here s is
    0.85 for jitter and 0.5 for a miss. For an inversion or a swap it is the similarity to the wrong keypoint: the new
    one is as near to the right keypoint. OKS has 2 sigma where this rule has sigma. So afterwards the similarity is the
    fourth root of s, for example 0.96 after jitter and 0.84 after a miss.

    Shapes: keypoints and truth (N, K, 2) image px, areas (N,) px^2 -> (N, K, 2) image px.

    Raises:
        ValueError: `kind` is not in `ERRORS`.
    """
    require_choice("kind of error", kind, ERRORS)
    members = diagnosis.kinds == KINDS.index(kind)
    persons, joints = np.nonzero(members)
    similarity = {"jitter": GOOD_SIMILARITY, "miss": NEAR_SIMILARITY}.get(kind, diagnosis.similarity[members])
    repaired = keypoints.copy()
    repaired[members] = truth[members]
    sigmas = np.array(skeleton.sigmas)[joints]
    repaired[persons, joints, 0] += np.sqrt(-2 * np.log(similarity) * areas[persons]) * sigmas
    return repaired
