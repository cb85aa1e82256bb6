"""Person boxes as a detector would find them, so that networks can also be scored without the true boxes."""

from collections.abc import Mapping

import numpy as np


def detect(
    rng: np.random.Generator, settings: Mapping, annotations: list[dict], image_id: int, size: tuple[int, int]
) -> list[dict]:
    """Boxes for one image of `size` (width, height) px with these COCO annotations.

    `settings` are those of the recipe: `missed` and `duplicates` are probabilities for each person, `false_alarms` is
    the mean number for each image, `jitter` the standard deviation of each side as a share of the box. Hidden people
    are missed more often and found less exactly. The score falls with the error, and false alarms score low.

    Returns:
        COCO results: image_id, category_id, bbox (x, y, w, h) in px, score in 0..1.
    """
    found = []
    for annotation in annotations:
        hidden = annotation["factors"]["occluded_fraction"]
        if rng.random() < settings["missed"] + 0.5 * hidden**2:
            continue
        for _ in range(1 + (rng.random() < settings["duplicates"])):
            box = np.array(annotation["bbox"])
            error = settings["jitter"] * (1 + 2 * hidden) * rng.standard_normal(4)
            start, end = box[:2] + error[:2] * box[2:], (box[:2] + box[2:]) + error[2:] * box[2:]
            score = 0.98 - 1.6 * np.abs(error).mean() - 0.3 * hidden + 0.05 * rng.standard_normal()
            found.append((start, end, score))
    for _ in range(rng.poisson(settings["false_alarms"])):
        start = rng.uniform(0, 0.8, 2) * size
        found.append((start, start + rng.uniform(20, 120, 2), rng.uniform(0.02, 0.5)))
    detections = []
    for start, end, score in found:
        start, end = np.maximum(start, 0), np.minimum(end, size)
        if (end - start > 4).all():
            bbox = np.concatenate([start, end - start]).round(2).tolist()
            score = round(float(np.clip(score, 0.01, 0.999)), 4)
            detections.append({"image_id": image_id, "category_id": 1, "bbox": bbox, "score": score})
    return detections
