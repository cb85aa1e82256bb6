"""One network, one person, one keypoint at a time, with a grey square in front of the person: the explore notebook."""

import textwrap

import ipywidgets as widgets
import numpy as np
from IPython.display import Image, display
from matplotlib.figure import Figure

from hpelib.figures import style
from hpelib.figures.heatmaps import common_limits, draw_heatmap
from hpelib.figures.looks import draw_change, draw_panel, panels_of
from hpelib.figures.skeletons import draw_person
from hpelib.records import quantity
from hpelib.study.config import all_datasets, networks_on, study_runs
from hpelib.study.inside.views import NOTHING, ORDERS, Gallery, Occluder

MAX_PANELS = 4  # of one layer
TITLE_WIDTH = 26  # characters above a panel


class Explorer(Gallery):
    """All trained runs of one dataset, with names such as "hrnet, seed 0".

    Raises:
        FileNotFoundError: nothing was trained.
    """

    def __init__(self, params: dict, dataset: str):
        runs = [run for network in networks_on(params, dataset) for run in study_runs(params, network, dataset)]
        trained = [run for run in runs if (run.folder / "weights.safetensors").is_file()]
        if not trained:
            raise FileNotFoundError(f"no network was trained on {dataset}; run: dvc repro train")
        super().__init__({f"{run.network}, seed {run.seed}": run for run in trained})

    def layers(self, run: str) -> list[str]:
        """Names of everything that the run's network shows of itself and that can be drawn."""
        looks = self.look(run, 0)[0].looks
        return [name for name, look in looks.items() if panels_of(quantity(name), look)]

    def clearest(self, run: str, person: int) -> str:
        """The visible keypoint of which the run's network is surest, or of all keypoints if none is visible."""
        (view,) = self.look(run, person)
        visible = view.crop.visibility == 2
        peaks = np.where(visible | ~visible.any(), view.heatmaps.max(axis=(1, 2)), -np.inf)
        return view.skeleton.keypoints[peaks.argmax()]

    def occluder_on(self, run: str, person: int, keypoint: str, share: float) -> Occluder:
        """A square on the point that the network finds. Its side is `share` of the crop's width."""
        (view,) = self.look(run, person)
        return Occluder(*view.found[view.skeleton.index(keypoint)].tolist(), share * view.crop.pixels.shape[1])

    def figure(
        self, run: str, person: int, keypoint: str, layer: str = "heatmaps", occluder: Occluder = NOTHING
    ) -> Figure:
        """The person with its annotation, the keypoint's heatmap, how the occluder changed it, and the layer.

        `layer` is one of `layers`. In the first three panels a circle marks the annotated point and a cross the one
        that the network finds.
        """
        free, view = self.look(run, person, (NOTHING, occluder))
        crop, k = view.crop, view.skeleton.index(keypoint)
        before, after = free.heatmaps[k], view.heatmaps[k]
        truth, found = crop.keypoints[k], view.found[k]
        limits = common_limits(before, after)
        panels = list(panels_of(quantity(layer), view.looks[layer], k).items())[:MAX_PANELS]
        with style.apply():
            figure, grid = style.panels(3 + len(panels), 4, 1.05 * view.aspect)
            picture, heatmap, change, *others = grid
            draw_person(picture, crop.pixels, crop.keypoints, crop.visibility, view.skeleton)
            picture.set_title(f"{run}: person {person}")
            draw_heatmap(heatmap, crop.pixels, after, limits, view.stride_px)
            distance_px = np.linalg.norm(found - truth)
            error = "not labelled" if np.isnan(distance_px) else f"{distance_px:.1f} px off"
            heatmap.set_title(f"{keypoint.replace('_', ' ')}: {error}")
            draw_change(change, crop.pixels, after - before, max(limits[1], 1e-6))
            change.set_title("changed by the occluder")
            for axes in grid[:3]:
                axes.plot(*truth, "o", color="white", markersize=8, fillstyle="none", markeredgewidth=1.5)
                axes.plot(*found, "x", color=style.SKY, markersize=7, markeredgewidth=2)
            for axes, (title, panel) in zip(others, panels, strict=True):
                draw_panel(axes, crop.pixels, panel)
                axes.set_title(textwrap.fill(title, TITLE_WIDTH))
        return figure


def panel(params: dict, dataset: str, order: str) -> widgets.VBox:
    """A choice of the dataset, and below it the choices for one `Explorer` with the picture that they lead to.

    `dataset` and `order`, one of `ORDERS`, are chosen first.
    """
    choice = widgets.Dropdown(description="dataset", options=all_datasets(params), value=dataset)
    box = widgets.VBox()

    def explore(_change: dict | None = None) -> None:
        box.children = (choice, _controls(Explorer(params, choice.value), order))

    choice.observe(explore, "value")
    explore()
    return box


def _controls(explorer: Explorer, order: str) -> widgets.VBox:
    first = next(iter(explorer.runs))
    last = len(explorer.people) - 1
    fraction = {"min": 0.0, "max": 1.0, "step": 0.02, "continuous_update": False}  # of the crop's width or height
    controls = {
        "run": widgets.Dropdown(description="run", options=list(explorer.runs)),
        "order": widgets.Dropdown(description="people", options=ORDERS, value=order),
        "rank": widgets.IntSlider(description="number", max=last, continuous_update=False),
        "keypoint": widgets.Dropdown(description="keypoint", options=explorer.people.skeleton.keypoints),
        "layer": widgets.Dropdown(description="layer", options=explorer.layers(first)),
        "x": widgets.FloatSlider(description="square: x", value=0.5, **fraction),
        "y": widgets.FloatSlider(description="square: y", value=0.5, **fraction),
        "size": widgets.FloatSlider(description="size", value=0.0, **fraction),
    }

    def show(run: str, order: str, rank: int, keypoint: str, layer: str, x: float, y: float, size: float) -> None:
        width, height = explorer.runs[run].inputs.input_size
        occluder = Occluder(x * width, y * height, size * width)
        person = explorer.persons(order)[rank]
        figure = explorer.figure(run, person, keypoint, layer, occluder)
        display(Image(style.to_png(figure), alt=f"{keypoint} of person {person} as {run} sees it"))

    def offer_layers(change: dict) -> None:
        controls["layer"].options = explorer.layers(change["new"])

    controls["run"].observe(offer_layers, "value")  # before `show` asks for a layer that the new network does not have
    choices = list(controls.values())
    sides = widgets.HBox([widgets.VBox(choices[:5]), widgets.VBox(choices[5:])])
    return widgets.VBox([sides, widgets.interactive_output(show, controls)])
