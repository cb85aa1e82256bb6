import cv2
import numpy as np
import pandas as pd
import pytest

from hpelib.data.crops import crop_person
from hpelib.data.loader import Crops, InputSettings, make_loader
from hpelib.data.people import People
from hpelib.figures import style
from hpelib.figures.people import contact_sheet, factor_distributions, prediction_sheet, scene_sheet, training_batch
from hpelib.skeletons import COCO17

SETTINGS = InputSettings(input_size=(48, 64), heatmap_size=(12, 16), sigma=1.0, batch_size=2)


@pytest.fixture
def people(tmp_path):
    """Five persons in two images of noise, one of them without any keypoint."""
    random = np.random.default_rng(0)
    paths = [str(tmp_path / f"{i}.png") for i in range(2)]
    for path in paths:
        cv2.imwrite(path, random.integers(0, 256, (60, 80, 3), np.uint8))
    visibility = random.integers(0, 3, (5, 17))
    visibility[2] = 0
    return People(
        COCO17,
        image_paths=np.array([paths[i] for i in (0, 0, 0, 1, 1)], dtype=object),
        image_ids=np.array([0, 0, 0, 1, 1]),
        ids=np.arange(5),
        keypoints=random.uniform(5, 55, (5, 17, 2)),
        visibility=visibility,
        boxes=np.tile([10.0, 5.0, 30.0, 50.0], (5, 1)),
    )


def shown(axes):
    return np.asarray(axes.images[0].get_array())


def dots(axes):
    offsets = [np.asarray(collection.get_offsets()) for collection in axes.collections]
    return sum(len(found) for found in offsets if found.any())


@pytest.mark.parametrize(("n", "rows"), [(1, [0]), (2, [0, 4]), (9, [0, 1, 2, 3, 4])])
def test_contact_sheet_shows_people_in_pairs(people, n, rows):
    pairs = np.array(contact_sheet(people, n, SETTINGS).axes).reshape(-1, 2)
    for (plain, drawn), row in zip(pairs, rows, strict=True):
        picture = crop_person(people, row, SETTINGS).picture
        np.testing.assert_array_equal(shown(plain), picture.pixels)
        np.testing.assert_array_equal(shown(drawn), picture.pixels)
        assert (dots(plain), dots(drawn)) == (0, (people.visibility[row] > 0).sum())


def test_scene_sheet_draws_everyone_in_an_image(people):
    pairs = np.array(scene_sheet(people, 2).axes).reshape(-1, 2)
    for (plain, drawn), members in zip(pairs, ([0, 1, 2], [3, 4]), strict=True):
        assert (dots(plain), dots(drawn)) == (0, (people.visibility[members] > 0).sum())
        assert shown(drawn).shape == (60, 80, 3)


def test_predictions_stand_beside_the_annotation(people):
    crops = [crop_person(people, person, SETTINGS) for person in (1, 2)]
    found = [np.full((17, 2), 20.0), np.full((17, 2), 30.0)]
    pairs = np.array(prediction_sheet(crops, found, ["90 %", "10 %"], COCO17).axes).reshape(2, 2)
    for (left, right), crop, title in zip(pairs, crops, ("90 %", "10 %"), strict=True):
        np.testing.assert_array_equal(shown(left), crop.picture.pixels)
        np.testing.assert_array_equal(shown(right), crop.picture.pixels)
        assert (dots(left), dots(right)) == ((crop.visibility > 0).sum(), 17)
        assert right.get_title() == title


def test_sheets_repeat_to_the_byte(people):
    first, second = (style.to_png(contact_sheet(people, 4, SETTINGS)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    "draw", [lambda people: contact_sheet(people, 4, SETTINGS), lambda people: scene_sheet(people, 4)]
)
def test_no_people_is_an_error(people, draw):
    with pytest.raises(ValueError, match="asked for 4 of 0"):
        draw(people.take([]))


@pytest.mark.parametrize("pixel_order", ["rgb", "bgr"])
def test_training_batch_shows_pixels_and_targets_that_the_network_gets(people, pixel_order):
    settings = InputSettings(
        input_size=(48, 64), heatmap_size=(12, 16), sigma=1.0, batch_size=2, augmentation=None, pixel_order=pixel_order
    )
    batch = next(iter(make_loader(people, settings, train=False)))
    axes = np.array(training_batch(batch, settings, COCO17).axes).reshape(2, 2)
    crops = Crops(people, settings, train=False)[0, np.arange(2)]
    targets, _ = settings.make_codec().encode(crops["keypoints"], crops["visible"])
    for above, below, crop, target in zip(*axes, crops["images"], targets, strict=True):
        np.testing.assert_array_equal(shown(above), crop)
        np.testing.assert_array_equal(below.images[1].get_array()[1:-1, 1:-1], target.amax(0))


def test_factors_are_counted_each_person_once():
    factors = pd.DataFrame(
        {
            "height_px": np.arange(40.0),
            "overlap": [np.nan] * 10 + list(np.linspace(0, 1, 30)),
            "noise": [10, 2] * 20,
            "mirrored": [True, False] * 20,
            "light": ["dusk"] * 15 + ["day"] * 25,
            "unknown": [np.nan] * 40,
        }
    )
    axes = {a.get_xlabel(): a for a in factor_distributions(factors).axes}
    counts = {name: sum(bar.get_height() for bar in a.patches) for name, a in axes.items()}
    assert counts == {"height px": 40, "overlap": 30, "noise": 40, "mirrored": 40, "light": 40, "unknown": 0}
    assert [tick.get_text() for tick in axes["light"].get_xticklabels()] == ["day", "dusk"]
    assert [bar.get_height() for bar in axes["light"].patches] == [25, 15]


@pytest.mark.parametrize("factors", [pd.DataFrame(index=range(3)), pd.DataFrame(columns=["light"])])
def test_no_factors_are_an_error(factors):
    with pytest.raises(ValueError, match="nothing to draw"):
        factor_distributions(factors)
