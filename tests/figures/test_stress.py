import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from hpelib.figures.stress import level_curves, level_sheet


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def a_table() -> pd.DataFrame:
    rows = [
        {"network": network, "factor": factor, "level": level, "value": 50.0 - step - shift, "low": 40.0, "high": 56.0}
        for shift, network in enumerate(("hrnet", "ditn"))
        for factor, levels in {"light": (1, 0.4, 0.1), "blur": (0, 2)}.items()
        for step, level in enumerate(levels)
    ]
    return pd.DataFrame(rows)


def test_curves_run_from_easy_to_hard_with_equal_steps():
    figure = level_curves(a_table(), {"light": "relative", "blur": "px"}, "PCKh@0.5 (%)")
    light, blur = figure.axes
    assert (light.get_title(), light.get_xlabel(), blur.get_title(), blur.get_xlabel()) == (
        "light",
        "relative",
        "blur",
        "px",
    )
    assert [label.get_text() for label in light.get_xticklabels()] == ["1", "0.4", "0.1"]
    for shift, line in enumerate(light.lines):
        np.testing.assert_array_equal(line.get_xydata(), [(0, 50 - shift), (1, 49 - shift), (2, 48 - shift)])
    band = light.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (40, 56)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["hrnet", "ditn"]
    floor = a_table().query("network == 'ditn'").assign(value=7.0)
    light, _ = level_curves(a_table(), {"light": "relative", "blur": "px"}, "PCKh@0.5 (%)", floor).axes
    np.testing.assert_array_equal(light.lines[-1].get_xydata(), [(0, 7), (1, 7), (2, 7)])


def test_an_empty_table_is_refused():
    with pytest.raises(ValueError, match="no network"):
        level_curves(a_table().iloc[:0], {"light": "relative"}, "PCKh@0.5 (%)")


def test_sheet_has_a_strip_per_factor_with_its_levels():
    crops = {
        factor: {level: np.full((8, 8, 3), 10 * place + row, np.uint8) for place, level in enumerate(levels)}
        for row, (factor, levels) in enumerate({"blur": (0, 2, 4), "light": (1, 0.5), "yaw": (0, 90, 180)}.items())
    }
    figure = level_sheet(crops)
    shown = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in shown] == ["0", "2", "4", "1", "0.5", "0", "90", "180"]
    assert [axes.get_ylabel() for axes in shown] == ["blur", "", "", "light", "", "yaw", "", ""]
    assert [axes.images[0].get_array().flat[0] for axes in shown] == [0, 10, 20, 1, 11, 2, 12, 22]
