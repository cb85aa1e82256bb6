"""Pictures of the data: contact sheets, the spread of the factors, and the batches a network is trained on."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from hpelib.data.crops import read_image
from hpelib.data.loader import IMAGENET_MEAN, IMAGENET_STD, Crops, InputSettings
from hpelib.data.people import People
from hpelib.figures import style
from hpelib.figures.heatmaps import draw_heatmap
from hpelib.figures.skeletons import draw_person, show_image
from hpelib.skeletons import Skeleton


def contact_sheet(people: People, n: int, settings: InputSettings, columns: int = 4) -> Figure:
    """`n` persons spread evenly over the table, each as the network's crop without and with the skeleton."""
    chosen = people.take(_evenly_spread(len(people), n))
    batch = Crops(chosen, settings, train=False)[0, np.arange(len(chosen))]
    width, height = settings.input_size
    with style.apply():
        figure, grid = style.panels(2 * len(chosen), 2 * columns, height / width)
        for (plain, drawn), crop, keypoints, visible in zip(
            grid.reshape(-1, 2), batch["images"], batch["keypoints"], batch["visible"], strict=True
        ):
            show_image(plain, crop)
            draw_person(drawn, crop, keypoints, visible, people.skeleton)
    return figure


def scene_sheet(people: People, n: int, columns: int = 2) -> Figure:
    """`n` images spread evenly over the table, each without and with the skeletons of all its people."""
    paths = pd.unique(people.image_paths)
    paths = paths[_evenly_spread(len(paths), n)]
    scenes = [read_image(path) for path in paths]
    with style.apply():
        aspect = max(scene.shape[0] / scene.shape[1] for scene in scenes)
        figure, grid = style.panels(2 * len(scenes), 2 * columns, aspect)
        for path, scene, (plain, drawn) in zip(paths, scenes, grid.reshape(-1, 2), strict=True):
            show_image(plain, scene)
            show_image(drawn, scene)
            for i in np.flatnonzero(people.image_paths == path):
                draw_person(drawn, None, people.keypoints[i], people.visibility[i], people.skeleton)
    return figure


def factor_distributions(factors: pd.DataFrame, columns: int = 4) -> Figure:
    """One histogram per column of `People.factors`: bins for numbers, a bar for each of a few words."""
    if factors.empty:
        raise ValueError(f"factors has {factors.shape[0]} persons and {factors.shape[1]} columns: nothing to draw")
    with style.apply():
        figure, grid = style.panels(factors.shape[1], columns, 0.75)
        for axes, (name, values) in zip(grid, factors.items(), strict=True):
            known = values.dropna()
            if pd.api.types.is_numeric_dtype(known):
                axes.hist(known.astype(float), bins=24, color=style.BLUE)
            else:
                counts = known.value_counts().sort_index()
                axes.bar(counts.index, counts, color=style.BLUE)
            axes.set_xlabel(name.replace("_", " "))
            axes.grid(axis="x", visible=False)
        for axes in grid[::columns]:
            axes.set_ylabel("persons")
    return figure


def training_batch(
    batch: Mapping[str, torch.Tensor], settings: InputSettings, skeleton: Skeleton, n: int = 6
) -> Figure:
    """The first `n` crops of a batch as the network gets them: above with keypoints, below with target heatmaps."""
    codec = settings.make_codec()
    crops = _to_pixels(batch["images"][:n], settings.pixel_order)
    keypoints, visible = batch["keypoints"][:n].cpu(), batch["visible"][:n].cpu()
    targets, _ = codec.encode(keypoints, visible)  # (n, K, h, w)
    with style.apply():
        figure, grid = style.panels(2 * len(crops), len(crops), crops.shape[1] / crops.shape[2])
        above, below = grid.reshape(2, -1)
        for i, crop in enumerate(crops):
            draw_person(above[i], crop, keypoints[i].numpy(), visible[i].numpy(), skeleton)
            draw_heatmap(below[i], crop, targets[i].amax(dim=0).numpy(), codec.stride)
        above[0].set_ylabel("input, keypoints")
        below[0].set_ylabel("target heatmaps")
    return figure


def _evenly_spread(count: int, n: int) -> np.ndarray:
    """At most `n` positions of a table of `count` rows, first and last included."""
    if count == 0 or n < 1:
        raise ValueError(f"nothing to draw: asked for {n} of {count}")
    return np.unique(np.linspace(0, count - 1, min(n, count)).round().astype(int))


def _to_pixels(images: torch.Tensor, pixel_order: str) -> np.ndarray:
    """Normalised images (n, 3, H, W) back to RGB pixels (n, H, W, 3) uint8."""
    pixels = images.float().cpu().permute(0, 2, 3, 1).numpy() * IMAGENET_STD + IMAGENET_MEAN
    pixels = pixels[..., ::-1] if pixel_order == "bgr" else pixels
    return np.ascontiguousarray((255 * pixels).round().clip(0, 255).astype(np.uint8))
