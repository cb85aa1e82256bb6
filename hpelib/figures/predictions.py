"""Predicted people beside the annotation."""

import numpy as np
from matplotlib.figure import Figure

from hpelib.figures import style
from hpelib.figures.skeletons import draw_person
from hpelib.skeletons import Skeleton


def prediction_sheet(
    crops: np.ndarray,
    keypoints: np.ndarray,
    visibility: np.ndarray,
    predicted: np.ndarray,
    titles: list[str],
    skeleton: Skeleton,
    columns: int = 6,
) -> Figure:
    """For each of N persons a panel with the annotated and, right of it, one with the predicted skeleton.

    Shapes: crops (N, H, W, 3) uint8, keypoints and predicted (N, K, 2) crop px, visibility (N, K).
    """
    everywhere = np.full(skeleton.num_keypoints, 2)
    with style.apply():
        figure, grid = style.panels(2 * len(crops), 2 * columns, crops.shape[1] / crops.shape[2])
        for i, (annotated, found) in enumerate(grid.reshape(-1, 2)):
            draw_person(annotated, crops[i], keypoints[i], visibility[i], skeleton)
            draw_person(found, crops[i], predicted[i], everywhere, skeleton)
            found.set_title(titles[i])
    return figure
