"""Recipes, and scenes drawn at random from them."""

from pathlib import Path

import pytest
import yaml

from hpelib.mannequins.scenes import read_recipe, sample_scene


@pytest.fixture(scope="module")
def recipe() -> dict:
    return read_recipe(Path(__file__).resolve().parents[2] / "data" / "mannequins.yaml")


def test_a_scene_depends_on_seed_split_and_index_alone(recipe):
    scene = sample_scene(recipe, 0, "train", 3)
    assert scene == sample_scene(recipe, 0, "train", 3)
    for other in [(1, "train", 3), (0, "val", 3), (0, "train", 4)]:
        assert scene != sample_scene(recipe, *other)
    with pytest.raises(ValueError, match="'dev' is none of 'train', 'val', 'test'"):
        sample_scene(recipe, 0, "dev", 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arms": ["folded"]}, "arms of pose standing='folded' is none of 'behind', 'crossed'"),
        ({"support": "floating"}, "support of pose standing='floating' is none of 'planted'"),
        ({"knee_flexoin": [0, 1]}, "joint of standing='knee_flexoin' is none of 'pelvis_tilt'"),
        ({"left_spine_bend": [0, 1]}, "joint of standing='spine_bend' is none of 'shoulder_flexion'"),
    ],
)
def test_recipe_names_what_does_not_exist(recipe, tmp_path, change, message):
    broken = recipe | {"poses": {"standing": recipe["poses"]["standing"] | change}}
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(broken))
    with pytest.raises(ValueError, match=message):
        read_recipe(path)


def test_arms_of_an_unknown_joint(recipe, tmp_path):
    (tmp_path / "recipe.yaml").write_text(
        yaml.safe_dump(recipe | {"arms": recipe["arms"] | {"flat": {"wing": [0, 1]}}})
    )
    with pytest.raises(ValueError, match="joint of arms flat='wing'"):
        read_recipe(tmp_path / "recipe.yaml")


def test_a_level_leaves_out_poses_and_a_scale_shrinks_everything():
    path = Path(__file__).resolve().parents[2] / "data" / "mannequins.yaml"
    everyday, plain, half = read_recipe(path), read_recipe(path, "plain"), read_recipe(path, "plain", scale=0.5)
    assert set(everyday["poses"]) - set(plain["poses"]) == set(
        yaml.safe_load(path.read_text())["levels"]["plain"]["without"]
    )
    persons = [[len(sample_scene(recipe, 0, "train", i).persons) for i in range(40)] for recipe in (everyday, plain)]
    assert [max(counts) for counts in persons] == [5, 3]
    for side in ("width", "height"):
        assert half["image"][side] == [px // 2 for px in plain["image"][side]]
    tall, small = (recipe["people"]["height_px"] for recipe in (plain, half))
    assert tall == [2 * px for px in small]
    with pytest.raises(ValueError, match="level='hard' is none of 'plain', 'everyday'"):
        read_recipe(path, "hard")
