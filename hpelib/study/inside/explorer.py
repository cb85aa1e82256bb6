"""One network, one person, one keypoint at a time, with a grey box in front of the person: the explore notebook."""

import re
import textwrap
from io import BytesIO
from pathlib import Path

import ipywidgets as widgets
import numpy as np
import PIL.Image
from IPython.display import Image, display
from jupyter_bbox_widget import BBoxWidget
from matplotlib.figure import Figure
from traitlets import List, Tuple, observe

from hpelib.attribution import attribute
from hpelib.data.crops import Picture
from hpelib.figures import style
from hpelib.figures.heatmaps import View, common_limits, draw_heatmap
from hpelib.figures.looks import Panel, draw_change, draw_panel, panels_of
from hpelib.figures.skeletons import draw_person
from hpelib.records import quantity
from hpelib.study.config import networks_on, study_runs
from hpelib.study.inside.views import NOTHING, ORDERS, Gallery
from hpelib.study.steps.weights import find_weights

ATTRIBUTION = "attribution: pixels that the keypoint's heatmap depends on"
NOBODY = "nobody"
KEPT = Path("work/explore")  # pictures that a reader keeps
MAX_PANELS = 4  # of one layer
TITLE_WIDTH = 26  # characters above a panel
OCCLUDER_WIDTH_PX = 240  # of the picture on which a box is drawn
HINT = "Drag the mouse over the person to hide a part. Drag the box or its corners; its cross removes it."


class Explorer(Gallery):
    """All trained runs of one dataset, with names such as "hrnet, seed 0".

    Raises:
        FileNotFoundError: nothing was trained.
    """

    def __init__(self, params: dict, dataset: str):
        runs = [run for network in networks_on(params, dataset) for run in study_runs(params, network, dataset)]
        trained = {f"{run.network}, seed {run.seed}": run for run in runs if find_weights(run)}
        if not trained:
            raise FileNotFoundError(f"no network was trained on {dataset}; run: dvc repro train")
        super().__init__(trained)

    def layers(self, run: str) -> list[str]:
        """Names of everything that the run's network shows of itself and that can be drawn, and `ATTRIBUTION`."""
        looks = self.look(run, 0)[0].looks
        return [*(name for name, look in looks.items() if panels_of(quantity(name), look)), ATTRIBUTION]

    def attribution(self, run: str, person: int, keypoint: int, mask: np.ndarray = NOTHING) -> np.ndarray:
        """How much each pixel (H, W) of the crop adds to the keypoint's heatmap, as `hpelib.attribution.attribute`."""
        return attribute(self.network(run), self.images(run, person, (mask,)), keypoint)[0].cpu().numpy()

    def clearest(self, run: str, person: int) -> tuple[str, float, float]:
        """The visible keypoint of which the network is surest, and where it finds it: (x, y) as for `square`.

        If no keypoint of the person is visible, all are considered.
        """
        (view,) = self.look(run, person)
        visible = view.crop.visibility == 2
        k = np.where(visible | ~visible.any(), view.heatmaps.max(axis=(1, 2)), -np.inf).argmax()
        x, y = view.found[k].astype(float) / self.runs[run].inputs.input_size
        return view.skeleton.keypoints[k], x, y

    def square(self, run: str, x: float, y: float, size: float) -> np.ndarray:
        """A mask (H, W) of the run's crops that is true in a square with the centre (x, y).

        `x` and `size` are fractions of the crop's width and `y` of its height, from 0 to 1. With size 0 the square is
        empty.
        """
        width, height = self.runs[run].inputs.input_size
        rows, columns = np.mgrid[:height, :width]
        return np.maximum(np.abs(columns - x * width), np.abs(rows - y * height)) < size * width / 2

    def box(self, run: str, left: float, top: float, width: float, height: float) -> np.ndarray:
        """A mask (H, W) of the run's crops that is true where the centre of a pixel lies in a box.

        `left` and `width` are fractions of the crop's width, `top` and `height` of its height, from 0 to 1.
        """
        across, down = self.runs[run].inputs.input_size
        rows, columns = np.mgrid[:down, :across] + 0.5
        inside_x = (left * across <= columns) & (columns < (left + width) * across)
        return inside_x & (top * down <= rows) & (rows < (top + height) * down)

    def figure(
        self,
        run: str,
        person: int,
        keypoint: str,
        layer: str = "heatmaps",
        mask: np.ndarray = NOTHING,
        channel: int = 0,
    ) -> Figure:
        """The person with its annotation, the keypoint's heatmap, how `mask` changed it, and the layer.

        `layer` is one of `layers`, and `mask` (H, W) is true where the person is hidden. `channel` chooses one map of a
        layer that has several, counted from 1; 0 stands for all together. In the first three panels a circle marks the
        annotated point and a cross the one that the network finds.
        """
        free, view = self.look(run, person, (NOTHING, mask))
        crop, k = view.crop, view.skeleton.index(keypoint)
        truth, found = crop.keypoints[k], view.found[k]
        limits = common_limits(free.heatmaps[k], view.heatmaps[k])
        pixels = self.attribution(run, person, k, mask) if layer == ATTRIBUTION else None
        panels = [] if pixels is not None else self._panels(view, layer, k, channel)
        distance_px = np.linalg.norm(found - truth)
        error = "not labelled" if np.isnan(distance_px) else f"{distance_px:.1f} px off"
        with style.apply():
            figure, grid = style.panels(3 + max(1, len(panels)), 4, 1.05 * view.aspect)
            draw_person(grid[0], crop.picture, crop.keypoints, crop.visibility, view.skeleton)
            draw_heatmap(grid[1], crop.picture, view.heatmaps[k], limits, view.stride_px)
            draw_change(grid[2], crop.picture, view.heatmaps[k] - free.heatmaps[k], max(limits[1], 1e-6))
            titles = f"{run}: person {person}", f"{keypoint.replace('_', ' ')}: {error}", "changed by the occluder"
            for axes, title in zip(grid, titles, strict=False):
                axes.set_title(textwrap.fill(title, TITLE_WIDTH))
                axes.plot(*truth, "o", color="white", markersize=8, fillstyle="none", markeredgewidth=1.5)
                axes.plot(*found, "x", color=style.SKY, markersize=7, markeredgewidth=2)
            if pixels is not None:
                draw_change(grid[3], crop.picture, pixels, max(np.abs(pixels).max(), 1e-6))
                grid[3].set_title(textwrap.fill("orange speaks for it, purple against", TITLE_WIDTH))
            for axes, (title, panel) in zip(grid[3:], panels, strict=False):
                draw_panel(axes, crop.picture, panel)
                axes.set_title(textwrap.fill(title, TITLE_WIDTH))
        return figure

    def _panels(self, view: View, layer: str, keypoint: int, channel: int) -> list[tuple[str, Panel]]:
        look = view.looks[layer]
        if channel and look.ndim == 3 and look.shape[1:] != (1, 1):
            number = min(channel, len(look))
            return [(f"{quantity(layer).title}: {number} of {len(look)}", Panel(look[number - 1], "value"))]
        return list(panels_of(quantity(layer), look, keypoint).items())[:MAX_PANELS]


class Occluder(BBoxWidget):
    """The person's picture. What lies below the box that a reader draws on it with the mouse is hidden.

    `value` is the box as `Explorer.box` takes it: left, top, width, height. All are 0 where there is none.
    """

    value = Tuple((0.0, 0.0, 0.0, 0.0))
    bboxes = List().tag(sync=True, echo_update=False)  # an echo of the press would undo the drag that follows it

    def __init__(self):
        super().__init__(hide_buttons=True, colors=[style.VERMILION])
        self.size_px = (1, 1)  # (width, height) of the picture

    def show(self, picture: Picture) -> None:
        """Put another person below the box, which stays where it is."""
        width, height = picture.crop_size
        edge_px = picture.zoom * picture.margin_px
        crop = picture.pixels[edge_px:, edge_px:][: height * picture.zoom, : width * picture.zoom]
        self.size_px = OCCLUDER_WIDTH_PX, round(OCCLUDER_WIDTH_PX * height / width)
        png = BytesIO()
        PIL.Image.fromarray(crop).resize(self.size_px).save(png, "png")
        self.image_bytes = png.getvalue()
        self.layout = {"height": f"{self.size_px[1] + 10}px", "overflow": "hidden"}  # no list of classes below

    @observe("bboxes")
    def _keep_the_last(self, change) -> None:
        # a press of the mouse adds a box without size, which has one when the mouse is let go
        if change.new and not (change.new[-1]["width"] and change.new[-1]["height"]):
            return
        if len(change.new) > 1:
            with self.hold_sync():
                self.bboxes, self.selected_index = change.new[-1:], 0
            return
        (width, height), (box,) = self.size_px, change.new or [dict.fromkeys(("x", "y", "width", "height"), 0)]
        fractions = box["x"] / width, box["y"] / height, box["width"] / width, box["height"] / height
        self.value = tuple(round(fraction, 3) for fraction in fractions)


def panel(params: dict, dataset: str, order: str) -> widgets.VBox:
    """Widgets for a notebook: a choice of the dataset, and below it the choices of `Explorer.figure` with its picture.

    `dataset`, and `order` of `ORDERS`, are what is chosen at first.
    """
    choice = widgets.Dropdown(description="dataset", options=params["all_datasets"], value=dataset)
    box = widgets.VBox()
    widgets.dlink(
        (choice, "value"), (box, "children"), lambda name: (choice, _controls(Explorer(params, name), name, order))
    )
    return box


def _controls(explorer: Explorer, dataset: str, order: str) -> widgets.VBox:
    names, last = list(explorer.runs), len(explorer.people) - 1
    controls = {
        "run": widgets.Dropdown(description="run", options=names),
        "beside": widgets.Dropdown(description="beside it", options=[NOBODY, *names]),
        "order": widgets.Dropdown(description="people", options=tuple(ORDERS), value=order),
        "rank": widgets.IntSlider(description="number", max=last, continuous_update=False),
        "keypoint": widgets.Dropdown(description="keypoint", options=explorer.people.skeleton.keypoints),
        "layer": widgets.Dropdown(description="layer", options=explorer.layers(names[0])),
        "channel": widgets.BoundedIntText(description="channel", max=9999),
        "box": Occluder(),
    }
    save = widgets.Button(description="keep this picture")
    said = widgets.Textarea(rows=8, layout={"width": "auto", "display": "none"})

    def drawn(run: str, order: str, rank: int, keypoint: str, layer: str, channel: int, box: tuple):
        person = explorer.persons(order)[rank]
        mask = explorer.box(run, *box)
        return person, explorer.figure(run, person, keypoint, layer, mask, channel)

    def show(beside: str, **chosen) -> None:
        for run in (chosen["run"], beside):
            if run != NOBODY:
                layer = chosen["layer"] if chosen["layer"] in explorer.layers(run) else "heatmaps"
                person, figure = drawn(**chosen | {"run": run, "layer": layer})
                display(Image(style.to_png(figure), alt=f"{chosen['keypoint']} of person {person} as {run} sees it"))

    def keep(_) -> None:
        chosen = {name: control.value for name, control in controls.items() if name != "beside"}
        person, figure = drawn(**chosen)
        name = re.sub(r"\W+", "_", f"{dataset}_{person}_{chosen['run']}_{chosen['keypoint']}_{chosen['layer']}")
        path = style.save(figure, KEPT / f"{name}.png")
        said.value = f"# {path}\n{code_of(dataset, person, **chosen)}"
        said.layout.display = ""

    def place(_) -> None:
        run, order, rank = (controls[name].value for name in ("run", "order", "rank"))
        (view,) = explorer.look(run, explorer.persons(order)[rank])
        controls["box"].show(view.crop.picture)

    # before `show` asks for a layer that the new network does not have
    controls["run"].observe(lambda change: controls["layer"].set_trait("options", explorer.layers(change.new)), "value")
    save.on_click(keep)
    place(None)
    for name in ("run", "order", "rank"):
        controls[name].observe(place, "value")
    *choices, box = controls.values()
    sides = widgets.HBox([widgets.VBox(choices), widgets.VBox([widgets.Label(HINT), box])])
    return widgets.VBox([sides, save, said, widgets.interactive_output(show, controls)])


def code_of(dataset: str, person: int, run: str, keypoint: str, layer: str, channel: int, box: tuple, **_) -> str:
    """The lines that draw again what the widgets show."""
    return (
        "from hpelib.study.config import load_params\n"
        "from hpelib.study.inside.explorer import Explorer\n\n"
        f"explorer = Explorer(load_params(), {dataset!r})\n"
        f"mask = explorer.box({run!r}, *{box})\n"
        f"explorer.figure({run!r}, {person}, {keypoint!r}, {layer!r}, mask, channel={channel})"
    )
