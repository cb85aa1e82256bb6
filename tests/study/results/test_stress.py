"""Tables of the stress tests: means, pairs and differences against values by hand."""

import numpy as np
import pytest
from scipy import stats

from hpelib.mannequins.stress import LEVELS, pictures
from hpelib.skeletons import MPII16
from hpelib.study.results import stress

F, K = len(pictures()), MPII16.num_keypoints


def some_hits(seed: int, seeds: int = 2, persons: int = 6) -> np.ndarray:
    """Random hits; pelvis and thorax are not scored, and the second person's ankles are cut off when truncated."""
    hits = np.random.default_rng(seed).integers(0, 2, (seeds, persons, F, K)).astype(float)
    hits[..., list(MPII16.unscored)] = np.nan
    hits[:, 1, stress.position("truncation", 0.6), [[0], [5]]] = np.nan
    return hits


def hidden_by_panel() -> np.ndarray:
    hidden = np.zeros((6, F, K), bool)
    hidden[0, stress.position("occlusion", 0.6), 0] = True
    return hidden.reshape(6 * F, K)


def test_crops_show_one_person_at_every_level_and_share_the_easy_picture(stress_people):
    crops = stress.level_crops(stress_people, 1, side_px=8)
    assert {factor: tuple(strip) for factor, strip in crops.items()} == LEVELS
    for factor, strip in crops.items():
        for level, crop in strip.items():
            place = 0 if level == LEVELS[factor][0] else pictures().index((factor, level))
            width, height = crop.crop_size
            assert (width, height, crop.zoom) == (8, 8, 32)
            middle = slice(*(crop.zoom * (crop.margin_px + side) for side in (2, 6)))
            np.testing.assert_array_equal(crop.pixels[middle, middle], 100 + place)


def test_a_summary_has_the_easy_picture_and_every_hardest_level_and_names_what_was_not_run():
    levels = stress.level_table({"hrnet": some_hits(0)})
    table = stress.summary_table(levels, ["hourglass", "hrnet"])
    assert set(table.loc["hourglass"]) == {"not run"}
    means = levels.query("joints == 'Mean'").set_index(["factor", "level"])
    for column, key in {"easy": ("light", 1), "light 0.05": ("light", 0.05), "height 18": ("height", 18)}.items():
        value, low, high = means.loc[key, ["value", "low", "high"]]
        assert table.loc["hrnet", column] == f"{value:.1f} [{low:.1f}, {high:.1f}]"


def test_levels_are_means_over_the_keypoints_that_the_last_level_keeps():
    hits = some_hits(3)
    table = stress.level_table({"hrnet": hits}).set_index(["factor", "level", "joints"])
    for factor, level in [("occlusion", 0.3), ("truncation", 0), ("truncation", 0.6), ("light", 0.05)]:
        for joints, members in {"Mean": range(K), "Ankle": MPII16.groups["Ankle"]}.items():
            kept = [[], []]
            for person in range(6):
                for k in members:
                    if k in MPII16.unscored or (factor == "truncation" and person == 1 and k in (0, 5)):
                        continue
                    for seed in range(2):
                        kept[seed].append(hits[seed, person, stress.position(factor, level), k])
            row = table.loc[factor, level, joints]
            assert row["value"] == pytest.approx(100 * np.mean(kept))
            assert row["sd"] == pytest.approx(100 * np.std([np.mean(kept[0]), np.mean(kept[1])], ddof=1))
            assert row["low"] <= row["value"] <= row["high"]
            assert row["persons"] == (5 if (factor, joints) == ("truncation", "Ankle") else 6)


def floor(share: float = 0.0, persons: int = 6) -> np.ndarray:
    """Hits (1, P, F, 16) of a mean pose that is right about this share of all keypoints."""
    return np.full((1, persons, F, K), share)


def test_gains_by_hand():
    nan = np.nan
    # two persons with two keypoints; the second person's second keypoint is cut off where it is hard
    ours = np.array([[[1, 1], [1, nan]]]), np.array([[[1, 0], [0, 1]]])
    theirs = np.array([[[0, 0], [1, nan]]]), np.array([[[1, 0], [1, 1]]])
    ours, theirs = ([each.repeat(2, axis=0) for each in side] for side in (ours, theirs))
    nothing = 0 * ours[0][:1], 0 * ours[0][:1]
    # hard gains 1, 1, 0; easy gains 0, 0, -1; changes 1, 1, 1
    found = stress.gains(ours, theirs, nothing)
    assert (found["hard"], found["easy"], found["change"]) == pytest.approx((200 / 3, -100 / 3, 100))
    assert found["persons"] == 2
    assert found["change_low"] == pytest.approx(100), "persons and seeds agree"
    second = [each.copy() for each in theirs]
    second[0][1, 0, 0] = 1  # under the second seed the baseline finds one where it is hard
    found = stress.gains(ours, second, nothing)
    seeds = [[100, 100], [0, 100 / 3]]  # the change of each side is 1/3 and -2/3, or -1/3
    assert found["change"] == pytest.approx(100 - 100 / 6)
    assert found["change_p"] > 0.05
    assert np.var(seeds[1], ddof=1) == pytest.approx((100 / 3) ** 2 / 2)
    assert stress.gains(theirs, ours, nothing)["change"] == pytest.approx(-100)
    assert stress.gains(ours, theirs, ours)["floor"], "the mean pose is as good as the better side"
    with pytest.raises(ValueError, match="no keypoint counts"):
        stress.gains((ours[0] * nan, ours[1]), theirs, nothing)


def test_intervals_draw_persons_with_both_networks_and_both_pictures_at_once():
    ours, theirs = (some_hits(seed, seeds=1, persons=40).repeat(2, axis=0) for seed in (0, 1))  # seeds change nothing
    hard, easy = stress.position("blur", 6), 0
    pairs = [(of[:, :, hard], of[:, :, easy]) for of in (ours, theirs)]
    found = stress.gains(*pairs, [0 * each[:1] for each in pairs[0]])
    change = np.nanmean((ours - theirs)[:, :, hard] - (ours - theirs)[:, :, easy], axis=(0, 2))  # (P,)
    assert found["change"] == pytest.approx(100 * change.mean())
    half = 100 * stats.sem(change) * stats.t.ppf(0.975, 39)
    assert (found["change_high"] - found["change_low"]) / 2 == pytest.approx(half, rel=0.08)


def test_stories_compare_the_joints_that_they_name():
    hits, hidden = some_hits(7), np.zeros((6, F, K), bool)
    last = stress.position("occlusion", 0.6)
    wrist, knee, head = (MPII16.index(name) for name in ("left_wrist", "right_knee", "head_top"))
    hidden[2, last, [wrist, knee]] = True
    hidden[2, 0, knee] = True  # by the own body, before there was a panel
    pairs = stress.comparisons(hits, hidden)
    hard, easy = pairs["joints that the panel hides"]
    assert np.argwhere(~np.isnan(hard[0])).tolist() == [[2, wrist]]
    assert hard[1, 2, wrist] == hits[1, 2, last, wrist]
    np.testing.assert_array_equal(easy, hits[:, :, 0])
    hard, _ = pairs["joints that it leaves in view"]
    assert np.isnan(hard[0, 2, [wrist, knee, head]]).all()
    assert (~np.isnan(hard[0])).sum() == 6 * 12 - 2
    hard, easy = pairs["wrists and ankles against shoulders and hips"]
    assert hard.shape == easy.shape == (2, 6, 4)
    np.testing.assert_array_equal(hard, hits[:, :, 0][..., [10, 15, 0, 5]])
    np.testing.assert_array_equal(easy, hits[:, :, 0][..., [12, 13, 2, 3]])
    hard, _ = pairs["light 0.05, all joints"]
    np.testing.assert_array_equal(hard, hits[:, :, pictures().index(("light", 0.05))])


def test_stories_pair_each_network_with_its_baseline_and_name_those_not_run():
    hits = {"hrnet": some_hits(0), "de_hrnet": some_hits(1), "daunet": some_hits(2)}
    table = stress.story_table(hits, hidden_by_panel(), floor())
    assert set(zip(table["network"], table["baseline"], strict=True)) == {("de_hrnet", "hrnet")}
    own = stress.story_table(hits | {"de_hrnet": hits["hrnet"]}, hidden_by_panel(), floor())
    assert (own[[*stress.SIDES]] == 0).all(axis=None)
    assert "better" not in stress.story_page(own)
    page = stress.story_page(table)
    assert "Not run from two seeds: sadi_net (against hourglass), fr_sbn (against simple_baseline), ditn " in page
    assert "de_hrnet against hrnet" in page
    assert "|" not in stress.story_page(table.iloc[:0])
    one_seed = {name: found[:1] for name, found in hits.items()}
    assert stress.story_table(one_seed, hidden_by_panel(), floor()).empty
    assert not table["floor"].all()
    everywhere = stress.story_table(hits, hidden_by_panel(), floor(1.0))
    assert everywhere["floor"].all()
    assert everywhere["p_hard_holm"].isna().all(), "nothing is tested at the floor"
    assert "| floor" in stress.story_page(everywhere)
    assert stress.story_answer(everywhere) == (
        f"All {len(everywhere)} comparisons stand at the floor, where no difference can be told."
    )


@pytest.mark.parametrize(
    ("hard", "change", "better", "bold"), [(3.0, 2.0, True, True), (3.0, -2.0, True, False), (-1.0, 2.0, False, False)]
)
def test_less_worse_is_not_better(hard, change, better, bold):
    table = stress.story_table({"hrnet": some_hits(0), "ditn": some_hits(1)}, hidden_by_panel(), floor())
    row = table.iloc[[-1]].assign(easy=hard - change, hard=hard, change=change, p_holm=0.01, p_hard_holm=0.01)
    page = stress.story_page(row)
    assert (("better: " in page), ("**" in page)) == (better, bold)
    assert f"{hard - change:+.1f} → {hard:+.1f} [" in page, "both gains are shown"
    unsure = stress.story_page(row.assign(p_holm=0.2, p_hard_holm=0.2))
    assert "better: " not in unsure
    assert f"In {int(better)} of them a paper's network is better" in stress.story_answer(row)
