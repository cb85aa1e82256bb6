"""Pictures of people: contact sheets, scenes, predictions, the spread of the factors, and a training batch."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from hpelib.data.crops import Crop, crop_person, read_image
from hpelib.data.loader import IMAGENET_MEAN, IMAGENET_STD, InputSettings
from hpelib.data.people import People
from hpelib.figures import style
from hpelib.figures.heatmaps import draw_heatmap
from hpelib.figures.skeletons import draw_person, show_image
from hpelib.skeletons import Skeleton


def contact_sheet(people: People, n: int, settings: InputSettings) -> Figure:
    """`n` persons spread evenly over the table. Each is shown without and with the skeleton;
    a thin line is the border of the network's crop."""
    crops = [crop_person(people, person, settings) for person in _evenly_spread(len(people), n)]
    with style.apply():
        figure, grid = style.panels(2 * len(crops), 8, crops[0].picture.aspect)
        for (plain, drawn), crop in zip(grid.reshape(-1, 2), crops, strict=True):
            show_image(plain, crop.picture)
            draw_person(drawn, crop.picture, crop.keypoints, crop.visibility, people.skeleton)
    return figure


def scene_sheet(people: People, n: int) -> Figure:
    """`n` images spread evenly over the table. Each is shown without and with the skeletons of all its people."""
    paths = pd.unique(people.image_paths)
    scenes = {path: read_image(path) for path in paths[_evenly_spread(len(paths), n)]}
    with style.apply():
        aspect = max(scene.shape[0] / scene.shape[1] for scene in scenes.values())
        figure, grid = style.panels(2 * len(scenes), 4, aspect)
        for (plain, drawn), (path, scene) in zip(grid.reshape(-1, 2), scenes.items(), strict=True):
            show_image(plain, scene)
            show_image(drawn, scene)
            for i in np.flatnonzero(people.image_paths == path):
                draw_person(drawn, None, people.keypoints[i], people.visibility[i], people.skeleton)
    return figure


def prediction_sheet(
    crops: Sequence[Crop], found: Sequence[np.ndarray], titles: Sequence[str], skeleton: Skeleton
) -> Figure:
    """Two panels for each person: on the left the annotated skeleton, on the right the predicted one.

    `found` has one array (K, 2) in crop px for each crop, and `titles` one title.
    """
    with style.apply():
        figure, grid = style.panels(2 * len(crops), 12, crops[0].picture.aspect)
        for (left, right), crop, keypoints, title in zip(grid.reshape(-1, 2), crops, found, titles, strict=True):
            draw_person(left, crop.picture, crop.keypoints, crop.visibility, skeleton)
            draw_person(right, crop.picture, keypoints, None, skeleton)
            right.set_title(title)
    return figure


def factor_distributions(factors: pd.DataFrame) -> Figure:
    """One panel for each column of `People.factors`: a histogram of numbers, or a bar for each of a few words.

    Raises:
        ValueError: there are no persons or no factors.
    """
    if factors.empty:
        raise ValueError(f"factors has {factors.shape[0]} persons and {factors.shape[1]} columns: nothing to draw")
    with style.apply():
        figure, grid = style.panels(factors.shape[1], 4, 0.75)
        for axes, (name, values) in zip(grid, factors.items(), strict=True):
            known = values.dropna()
            if pd.api.types.is_numeric_dtype(known):
                axes.hist(known.astype(float), bins=24, color=style.BLUE)
            else:
                counts = known.value_counts().sort_index()
                axes.bar(counts.index, counts, color=style.BLUE)
            axes.set_xlabel(name.replace("_", " "))
            axes.grid(axis="x", visible=False)
        for axes in grid[::4]:
            axes.set_ylabel("persons")
    return figure


def training_batch(batch: Mapping[str, torch.Tensor], settings: InputSettings, skeleton: Skeleton) -> Figure:
    """The first six crops of a batch of `make_loader`, as the network gets them.

    Above stand the keypoints, below the maximum over the target heatmaps.
    """
    codec = settings.make_codec()
    images, keypoints, visible = (batch[name][:6].cpu() for name in ("images", "keypoints", "visible"))
    pixels = images.float().permute(0, 2, 3, 1).numpy() * IMAGENET_STD + IMAGENET_MEAN
    pixels = pixels[..., ::-1] if settings.pixel_order == "bgr" else pixels
    crops = np.ascontiguousarray((255 * pixels).round().clip(0, 255).astype(np.uint8))  # (n, H, W, 3) RGB
    targets, _ = codec.encode(keypoints, visible)  # (n, K, h, w)
    with style.apply():
        figure, grid = style.panels(2 * len(crops), len(crops), crops.shape[1] / crops.shape[2])
        above, below = grid.reshape(2, -1)
        for i, crop in enumerate(crops):
            draw_person(above[i], crop, keypoints[i].numpy(), visible[i].numpy(), skeleton)
            draw_heatmap(below[i], crop, targets[i].amax(dim=0).numpy(), stride_px=codec.stride)
        above[0].set_ylabel("input, keypoints")
        below[0].set_ylabel("target heatmaps")
    return figure


def _evenly_spread(count: int, n: int) -> np.ndarray:
    """At most `n` positions of a table of `count` rows. The first and the last row are among them."""
    if count == 0 or n < 1:
        raise ValueError(f"nothing to draw: asked for {n} of {count}")
    return np.unique(np.linspace(0, count - 1, min(n, count)).round().astype(int))
