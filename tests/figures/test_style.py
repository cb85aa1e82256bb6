import io

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image, ImageOps

from hpelib.figures import style
from hpelib.models import list_models


def a_figure(pixels=None):
    with style.apply():
        figure, (axes,) = style.panels(1, 1, 0.5)
        axes.plot([0, 1], [1, 0], label="hourglass", **style.series_styles(["hourglass"])["hourglass"])
        axes.legend()
        if pixels is not None:
            axes.imshow(pixels)
    return figure


def luminance(color):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]  # sRGB
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def test_equal_figures_give_equal_bytes_whatever_the_settings_outside(tmp_path):
    first = style.save(a_figure(), tmp_path / "new" / "first.png").read_bytes()
    with mpl.rc_context({"savefig.dpi": 37, "savefig.transparent": True, "font.size": 20}):
        second = style.save(a_figure(), tmp_path / "second.png").read_bytes()
    assert first == second
    assert b"tEXt" not in first


def test_saved_figure_is_closed(tmp_path):
    figure = a_figure()
    style.save(figure, tmp_path / "figure.png")
    assert figure.number not in plt.get_fignums()


@pytest.mark.parametrize("noisy", [False, True])
def test_only_large_files_lose_colours_and_by_less_than_shows(tmp_path, noisy):
    pixels = np.random.default_rng(0).integers(0, 256, (600, 1200, 3), np.uint8) if noisy else None
    figure = a_figure(pixels)
    figure.savefig(tmp_path / "exact.png")
    path = style.save(figure, tmp_path / "saved.png")
    exact, saved = (np.asarray(Image.open(p).convert("RGB")).astype(int) for p in (tmp_path / "exact.png", path))
    left, top, right, bottom = ImageOps.invert(Image.open(tmp_path / "exact.png").convert("RGB")).getbbox()
    exact = exact[max(top - 4, 0) : bottom + 4, max(left - 4, 0) : right + 4]  # its margins are left out
    error = np.abs(exact - saved).max()
    assert 0 < error <= 9 if noisy else error == 0  # of 255
    assert path.stat().st_size < (tmp_path / "exact.png").stat().st_size


def test_apply_leaves_the_settings_outside_alone():
    before = dict(mpl.rcParams)
    with style.apply():
        assert mpl.rcParams["font.family"] == ["DejaVu Sans"]
    assert dict(mpl.rcParams) == before


def test_networks_look_different_and_the_same_in_any_company():
    names = list_models()
    styles = style.series_styles(names)
    assert len({tuple(look.items()) for look in styles.values()}) == len(names)
    assert style.series_styles(["full", "hrnet_w48"])["hrnet_w48"] == styles["hrnet_w48"]
    assert styles["hrnet_w32"]["color"] == styles["hrnet_w48"]["color"]


def test_other_names_look_different():
    variants = [f"de_hrnet_w32, variant {i}" for i in range(20)]
    assert len({tuple(look.items()) for look in style.series_styles(variants).values()}) == len(variants)


def test_left_and_right_differ_in_grey():
    left, right = (luminance(style.SIDE_COLORS[side]) for side in ("left", "right"))
    assert (left + 0.05) / (right + 0.05) > 2
    for side, color in style.SIDE_COLORS.items():  # rims set the bones off from any background
        light, dark = sorted((luminance(color), luminance(style.SIDE_RIMS[side])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) > 3


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 4, 1), (5, 3, 2), (6, 3, 2)])
def test_panels(count, columns, rows):
    figure, grid = style.panels(count, columns, aspect=1.0)
    assert len(grid) == len(figure.axes) == count
    assert grid[0].get_gridspec().get_geometry() == (rows, min(columns, count))
    plt.close(figure)


def test_what_is_drawn_to_the_edge_gets_no_frame():
    drawn = Image.open(io.BytesIO(style.to_png(plt.figure(figsize=(1, 1), facecolor="red"))))
    assert drawn.getcolors() == [(150**2, (255, 0, 0))]


def test_a_network_at_another_input_has_its_familys_colour_and_a_look_of_its_own():
    styles = style.series_styles(["hrnet", "hrnet_w48", "hrnet_384", "hrnet_w48_384", "fr_sbn_resnet152_384", "fr_sbn"])
    assert len({tuple(look.items()) for look in styles.values()}) == len(styles)
    assert {styles[name]["color"] for name in styles if name.startswith("hrnet")} == {styles["hrnet"]["color"]}
