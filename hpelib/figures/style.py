"""One look for all figures: colours, line styles and sizes, and PNG files whose bytes repeat.

Colours are those of Okabe and Ito ("Color Universal Design", 2008), safe for colour-blind readers; their
yellow is replaced by grey because thin yellow lines vanish on paper. What colour says is said a second time,
so that it survives grey printing: a network by its marker, its variant by dashes and filling, a person's left by
light ink with a dark rim and right by dark ink with a light rim.
"""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from PIL import Image

from hpelib.records import records

BLACK, GREY, ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE = (
    "#000000",
    "#7F7F7F",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
)

SIDE_COLORS = {"left": ORANGE, "right": BLUE, "centre": GREEN}  # of joints and of bones
SIDE_RIMS = {"left": BLACK, "right": "#FFFFFF", "centre": "#FFFFFF"}

VARIANT_STYLES = (("-", "full"), ("--", "none"), ("-.", "left"), (":", "bottom"))  # dashes, filling of markers
VARIANTS = {"34": 0, "50": 1, "101": 2, "152": 3, "32": 0, "48": 1}  # layers of ResNet, width of HRNet

WIDTH_IN = 7.0  # the text width of an A4 or letter page
DPI = 150
MAX_BYTES = 100_000  # of a PNG
COLOR_LEVELS = 26  # per channel, of what would be larger; in print the difference cannot be seen
MARGIN_PX = 4

RC = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same glyphs on every machine
    "font.size": 8.0,
    "axes.titlesize": 8.0,
    "axes.labelsize": 8.0,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "legend.fontsize": 7.0,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "hatch.linewidth": 0.5,
    "image.interpolation": "nearest",
    "figure.dpi": DPI,
    "figure.constrained_layout.use": True,
}


def _rising_opacity(name: str, steps: int = 256) -> ListedColormap:
    """Colour map `name` from transparent to nearly opaque, so that an image shows where the map is low."""
    level = np.linspace(0, 1, steps)
    colors = mpl.colormaps[name](level)
    colors[:, 3] = 0.85 * np.sqrt(level)
    return ListedColormap(colors, name=f"{name}_overlay")


HEATMAP_COLORS = _rising_opacity("inferno")


@contextmanager
def apply() -> Iterator[None]:
    """Draw with the study's settings inside the block, whatever those outside are, which come back after it."""
    with plt.style.context(["default", RC]):
        yield


def series_styles(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Colour, marker, line style and marker filling per name, as keyword arguments for `Axes.plot`.

    A network, as named by `hpelib.models.list_models()`, looks the same in every figure. Other names, such as
    the rows of an ablation, take the same styles in the order given.
    """
    families = {record.name: (record.color, record.marker) for record in records().values() if record.color}
    network = re.compile(rf"({'|'.join(families)})(?:_(?:resnet|w)(\d+))?")
    spare = ((*family, *variant) for variant in cycle(VARIANT_STYLES) for family in families.values())
    styles = {}
    for name in names:
        known = network.fullmatch(name)
        look = (*families[known[1]], *VARIANT_STYLES[VARIANTS.get(known[2], 0)]) if known else next(spare)
        styles[name] = dict(zip(("color", "marker", "linestyle", "fillstyle"), look, strict=True))
    return styles


def panels(count: int, columns: int, aspect: float, width_in: float = WIDTH_IN) -> tuple[Figure, np.ndarray]:
    """A figure of `width_in` with `count` axes (count,), row by row, each `aspect` times as high as wide."""
    columns = min(columns, count)
    rows = -(-count // columns)
    height_in = rows * (width_in / columns * aspect + 0.25) + 0.5  # titles, and a legend or colour bar
    figure, grid = plt.subplots(rows, columns, figsize=(width_in, height_in), squeeze=False, layout="compressed")
    for axes in grid.flat[count:]:
        axes.remove()
    return figure, grid.ravel()[:count]


def save(figure: Figure, path: str | Path) -> Path:
    """Write `figure` as PNG, as from `to_png`, and return the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(to_png(figure))
    return path


def to_png(figure: Figure) -> bytes:
    """`figure` as PNG without its margins; the figure is closed.

    Equal figures give equal bytes: fixed resolution, no version or date in the file. Sheets of photographs that
    would exceed `MAX_BYTES` are rounded to fewer colours, since noise in the last bits is most of their size.
    """
    with apply():
        figure.set_dpi(DPI)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    plt.close(figure)
    pixels = _without_margins(np.asarray(canvas.buffer_rgba())[..., :3])
    encoded = _encoded(pixels)
    if len(encoded) <= MAX_BYTES:
        return encoded
    levels = np.arange(256) / 255 * (COLOR_LEVELS - 1)
    return _encoded((levels.round() / (COLOR_LEVELS - 1) * 255).round().astype(np.uint8)[pixels])


def _without_margins(pixels: np.ndarray) -> np.ndarray:
    """`pixels` (H, W, 3) without the white around them but for `MARGIN_PX`."""
    drawn = (pixels != 255).any(axis=2)
    rows, columns = (np.flatnonzero(drawn.any(axis=axis)) for axis in (1, 0))
    top, left = (max(places[0] - MARGIN_PX, 0) for places in (rows, columns))
    return pixels[top : rows[-1] + MARGIN_PX + 1, left : columns[-1] + MARGIN_PX + 1]


def _encoded(pixels: np.ndarray) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, format="PNG")  # `optimize` would take ten times as long for a hundredth less
    return encoded.getvalue()
