"""Keypoint sets of the annotation formats: names, mirror pairs, bones, reported joint groups.

Sources: COCO's sigmas from pycocotools, its bones from the dataset; MPII from the official annotation (joint ids 0 to
15); LSP from its README. Left and right are the person's own.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Skeleton:
    """One keypoint set. Indices everywhere are positions in `keypoints`."""

    name: str
    keypoints: tuple[str, ...]
    flip_pairs: tuple[tuple[int, int], ...]  # left and right of one joint
    bones: tuple[tuple[int, int], ...]
    groups: dict[str, tuple[int, ...]]  # the joint groups that a results table prints
    upper_body: tuple[int, ...]  # for half-body augmentation
    sigmas: tuple[float, ...] = ()  # OKS fall-off of each keypoint, where the format defines it
    unscored: tuple[int, ...] = ()  # keypoints that the format's mean leaves out

    @property
    def num_keypoints(self) -> int:
        return len(self.keypoints)

    @property
    def flip_permutation(self) -> tuple[int, ...]:
        """Index of each keypoint's mirror image: `mirrored = keypoints[permutation]`."""
        permutation = list(range(self.num_keypoints))
        for left, right in self.flip_pairs:
            permutation[left], permutation[right] = right, left
        return tuple(permutation)

    def index(self, keypoint: str) -> int:
        return self.keypoints.index(keypoint)


# fmt: off
COCO17 = Skeleton(
    name="coco17",
    keypoints=(
        "nose", "left_eye", "right_eye", "left_ear", "right_ear",
        "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
        "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
    ),
    flip_pairs=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
    bones=(
        (15, 13), (13, 11), (16, 14), (14, 12), (11, 12),  # legs
        (5, 11), (6, 12), (5, 6),  # trunk
        (5, 7), (6, 8), (7, 9), (8, 10),  # arms
        (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),  # head
    ),
    groups={
        "Head": (0, 1, 2, 3, 4), "Shoulder": (5, 6), "Elbow": (7, 8), "Wrist": (9, 10),
        "Hip": (11, 12), "Knee": (13, 14), "Ankle": (15, 16),
    },
    upper_body=tuple(range(11)),
    sigmas=(
        0.026, 0.025, 0.025, 0.035, 0.035,
        0.079, 0.079, 0.072, 0.072, 0.062, 0.062,
        0.107, 0.107, 0.087, 0.087, 0.089, 0.089,
    ),
)

MPII16 = Skeleton(
    name="mpii16",
    keypoints=(
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle",
        "pelvis", "thorax", "upper_neck", "head_top",
        "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
    ),
    flip_pairs=((0, 5), (1, 4), (2, 3), (10, 15), (11, 14), (12, 13)),
    bones=(
        (0, 1), (1, 2), (2, 6), (6, 3), (3, 4), (4, 5),  # legs
        (6, 7), (7, 8), (8, 9),  # trunk and head
        (10, 11), (11, 12), (12, 7), (7, 13), (13, 14), (14, 15),  # arms
    ),
    groups={
        "Head": (9,), "Shoulder": (12, 13), "Elbow": (11, 14), "Wrist": (10, 15),
        "Hip": (2, 3), "Knee": (1, 4), "Ankle": (0, 5),
    },
    upper_body=tuple(range(7, 16)),
    unscored=(6, 7),  # pelvis and thorax, as in the official evaluation
)

LSP14 = Skeleton(
    name="lsp14",
    keypoints=(
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle",
        "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist",
        "neck", "head_top",
    ),
    flip_pairs=((0, 5), (1, 4), (2, 3), (6, 11), (7, 10), (8, 9)),
    bones=(
        (0, 1), (1, 2), (2, 3), (3, 4), (4, 5),  # legs
        (6, 7), (7, 8), (8, 12), (12, 9), (9, 10), (10, 11),  # arms
        (12, 13), (2, 8), (3, 9),  # head and trunk
    ),
    groups={
        "Head": (12, 13), "Shoulder": (8, 9), "Elbow": (7, 10), "Wrist": (6, 11),
        "Hip": (2, 3), "Knee": (1, 4), "Ankle": (0, 5),
    },
    upper_body=tuple(range(6, 14)),
)
# fmt: on

SKELETONS = {skeleton.name: skeleton for skeleton in (COCO17, MPII16, LSP14)}
