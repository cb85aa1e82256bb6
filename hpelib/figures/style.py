"""One look for all figures: colours, line styles and sizes, and PNG files whose bytes repeat.

Colours are those of Okabe and Ito ("Color Universal Design", 2008), which colour-blind readers can tell apart. Their
yellow is replaced by grey, because thin yellow lines vanish on paper. No picture needs colour to be understood, so that
it can be printed in grey: a network has its marker too, a variant its dashes and filled markers, a person's left is
light with a dark rim and the right dark with a light rim.
"""

import io
from collections.abc import Sequence
from contextlib import AbstractContextManager
from itertools import cycle
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from hpelib.records import family, records

BLACK, GREY, ORANGE, SKY = "#000000", "#7F7F7F", "#E69F00", "#56B4E9"
GREEN, BLUE, VERMILION, PURPLE = "#009E73", "#0072B2", "#D55E00", "#CC79A7"

SIDE_COLORS = {"left": ORANGE, "right": BLUE, "centre": GREEN}  # of keypoints and of bones
SIDE_RIMS = {"left": BLACK, "right": "#FFFFFF", "centre": "#FFFFFF"}

VARIANT_STYLES = (("-", "full"), ("--", "none"), ("-.", "left"), (":", "bottom"))  # dashes, filling of markers
VARIANTS = {"34": 0, "50": 1, "101": 2, "152": 3, "32": 0, "48": 1}  # layers of ResNet, width of HRNet

WIDTH_IN = 7.0  # the text width of an A4 or letter page
PANEL_IN = 1.0  # width of one panel of a sheet of persons that has few
MAX_BYTES = 100_000  # of a PNG
COLOR_LEVELS = 16  # per channel, in files that would be larger; in print the difference can hardly be seen
MARGIN_PX = 4

# from transparent to nearly opaque, so that the image shows where a map is low
_LEVEL = np.linspace(0, 1, 256)
HEATMAP_COLORS = ListedColormap(
    np.column_stack([mpl.colormaps["inferno"](_LEVEL)[:, :3], 0.85 * np.sqrt(_LEVEL)]), name="inferno_overlay"
)


def apply() -> AbstractContextManager[None]:
    """Draw with the study's settings inside a `with` block. Settings of the caller have no effect and come back."""
    return plt.style.context(["default", "hpelib.figures.style"])  # style.mplstyle


def series_styles(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Colour, marker, line style and marker filling for each name, as keyword arguments of `Axes.plot`.

    A network, its variants and its inputs (`hpelib.records.family`) look the same in every figure. Other names, such as
    the rows of an ablation, take the same styles in the order given.
    """
    families = {record.name: (record.color, record.marker) for record in records().values() if record.color}
    spare = ((*look, *variant) for variant in cycle(VARIANT_STYLES) for look in families.values())
    styles = {}
    for name in names:
        known, variant, size = family(name)
        dashes, filling = VARIANT_STYLES[VARIANTS.get(variant, 0)]
        look = (*families[known], dashes, "top" if size else filling) if known in families else next(spare)
        styles[name] = dict(zip(("color", "marker", "linestyle", "fillstyle"), look, strict=True))
    return styles


def panels(count: int, columns: int, aspect: float, width_in: float = WIDTH_IN) -> tuple[Figure, np.ndarray]:
    """A figure `width_in` inches wide with `count` axes (count,), row by row, each `aspect` times as high as wide."""
    columns = min(columns, count)
    rows = -(-count // columns)
    height_in = rows * (width_in / columns * aspect + 0.25) + 0.5  # titles, and a legend or colour bar
    figure, grid = plt.subplots(rows, columns, figsize=(width_in, height_in), squeeze=False, layout="compressed")
    for axes in grid.flat[count:]:
        axes.remove()
    return figure, grid.ravel()[:count]


def save(figure: Figure, path: str | Path) -> Path:
    """Write `figure` as a PNG file, as `to_png` makes it, and return the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(to_png(figure))
    return path


def to_png(figure: Figure) -> bytes:
    """`figure` as a PNG file without white margins. The figure is closed.

    Equal figures give equal bytes: the resolution is fixed, and the file has no version or date. A sheet of photographs
    that would exceed `MAX_BYTES` gets fewer colours, because noise in the last bits takes most of its space.
    """
    with apply():
        figure.set_dpi(mpl.rcParams["figure.dpi"])
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    plt.close(figure)
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    box = np.add(ImageOps.invert(image).getbbox(), (-MARGIN_PX, -MARGIN_PX, MARGIN_PX, MARGIN_PX))
    image = image.crop(np.clip(box, 0, 2 * image.size).tolist())
    for levels in (256, COLOR_LEVELS):  # of each channel: all, or few
        encoded, values = io.BytesIO(), (np.arange(256) / 255 * (levels - 1)).round() / (levels - 1)
        few = image.point((255 * values).round().astype(int).tolist() * 3)
        few.save(encoded, format="PNG")  # `optimize` would take ten times as long for one hundredth less
        if encoded.tell() <= MAX_BYTES:
            break
    return encoded.getvalue()
