"""Batches: keypoints on what is drawn; the same whatever the workers, processes and batch size; resume."""

import os
import signal
import tempfile
from dataclasses import dataclass, replace

import cv2
import numpy as np
import pytest
import torch
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from hpelib.data.augment import Augmentation
from hpelib.data.loader import IMAGENET_MEAN, IMAGENET_STD, InputSettings, make_loader
from hpelib.data.people import People
from hpelib.skeletons import LSP14

SETTINGS = InputSettings(input_size=(48, 64), heatmap_size=(12, 16), batch_size=4, seed=7)
COLOURS = np.random.default_rng(0).permutation(
    np.array([(r, g, 90) for r in (80, 160, 240) for g in range(0, 250, 50)])
)


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Eleven persons in four images, every keypoint a dot in its own colour; two keypoints not labelled."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    places = np.stack(np.meshgrid(np.arange(4), np.arange(4)), -1).reshape(-1, 2)
    keypoints = np.stack([random.permutation(places)[:14] * 24.0 for _ in range(11)])
    keypoints += np.stack((np.arange(11) % 3 * 120 + 20, np.full(11, 40)), -1)[:, None]  # three beside each other
    images = np.zeros((4, 160, 360, 3), np.uint8)
    for person, points in enumerate(keypoints.astype(int)):
        for point, colour in zip(points.tolist(), COLOURS.tolist(), strict=False):
            cv2.circle(images[person // 3], point, 5, colour[::-1], -1)
    for i, image in enumerate(images):
        cv2.imwrite(str(folder / f"{i}.png"), image)
    visibility = np.full((11, 14), 2)
    visibility[2, 5] = visibility[9, 0] = 0
    left_top = keypoints.min(1) - 6
    return People(
        LSP14,
        image_paths=np.array([str(folder / f"{i // 3}.png") for i in range(11)], object),
        image_ids=np.arange(11) // 3,
        ids=np.arange(100, 111),
        keypoints=keypoints,
        visibility=visibility,
        boxes=np.concatenate((left_top, keypoints.max(1) + 6 - left_top), 1),
    )


def batches_of(people, settings, train=True, epoch=0, start_step=0, **shares):
    loader = make_loader(people, settings, train, **shares)
    loader.set_epoch(epoch, start_step)
    return list(loader)


def persons_of(batches):
    """The batches' persons one by one, by their position."""
    return {int(b["index"][i]): {k: v[i] for k, v in b.items()} for b in batches for i in range(len(b["ids"]))}


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0, equal_nan=True)


def pixels_of(images):
    """Normalised images (B, 3, H, W) as 0 to 255, (B, H, W, 3)."""
    return (images.permute(0, 2, 3, 1) * torch.tensor(IMAGENET_STD) + torch.tensor(IMAGENET_MEAN)) * 255


@pytest.mark.parametrize("codec", ["msra", "udp"])
def test_keypoints_land_on_what_is_drawn_also_after_augmentation(people, codec):
    settings = replace(SETTINGS, codec=codec, input_size=(192, 256), heatmap_size=(48, 64), batch_size=11)
    seen, flipped = 0, 0
    for epoch in range(4):
        (batch,) = batches_of(people, settings, epoch=epoch)
        pixels = pixels_of(batch["images"])
        assert (batch["keypoints"].isnan().any(-1) == (batch["visible"] == 0)).all()
        for n in range(11):
            mirrored = torch.linalg.det(batch["matrices"][n, :, :2]) < 0
            flipped += bool(mirrored)
            for k in range(14):
                if not batch["visible"][n, k]:
                    continue
                x, y = batch["keypoints"][n, k].round().int().tolist()
                if 2 <= x < 190 and 2 <= y < 254:
                    owner = LSP14.flip_permutation[k] if mirrored else k
                    np.testing.assert_allclose(pixels[n, y, x], COLOURS[owner], atol=12)
                    seen += 1
    assert seen > 300
    assert 5 < flipped < 40


def test_loaders_of_the_same_pictures_share_what_one_has_decoded(people, monkeypatch):
    first = make_loader(people, SETTINGS, train=False)
    expected = list(first)
    monkeypatch.delattr("hpelib.data.image_cache.read_image")
    second = make_loader(people, SETTINGS, train=False, images=first.crops.images)
    for found, batch in zip(second, expected, strict=True):
        assert_same(found, batch)
    with pytest.raises(NameError):
        list(make_loader(people, SETTINGS, train=False))


def test_a_batch_is_what_it_says(people):
    batches = batches_of(people, SETTINGS, train=False)
    assert [len(b["ids"]) for b in batches] == [4, 4, 3]
    assert torch.cat([b["ids"] for b in batches]).tolist() == people.ids.tolist()
    assert torch.cat([b["index"] for b in batches]).tolist() == list(range(11))
    batch = batches[0]
    assert batch["images"].shape == (4, 3, 64, 48)
    assert batch["images"].dtype == batch["keypoints"].dtype == torch.float32
    assert batch["images"].is_contiguous(memory_format=torch.channels_last)
    assert batch["keypoints"].shape == (4, 14, 2)
    assert batch["visible"].shape == (4, 14)
    linear, offset = batch["matrices"][..., :2], batch["matrices"][..., 2]
    expected = torch.from_numpy(people.keypoints[:4]).double() @ linear.mT + offset[:, None]
    torch.testing.assert_close(batch["keypoints"].double(), expected, rtol=0, atol=1e-4, equal_nan=True)


def test_pixels_are_normalised_as_those_that_pretrained_trunks_saw():
    assert (IMAGENET_MEAN, IMAGENET_STD) == (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)


def test_pixels_are_normalised_to_the_bit_as_channel_by_channel(people):
    loader = make_loader(people, SETTINGS, train=True)
    for request, batch in zip(loader.batches, loader, strict=True):
        pixels = torch.from_numpy(loader.crops[request]["images"]).float()
        for c, (mean, std) in enumerate(zip(torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD), strict=True)):
            assert torch.equal(batch["images"][:, c], pixels[..., c] * (1 / (255 * std)) - mean / std)


def test_a_flipped_crop_is_the_mirrored_crop_exactly(people):
    upright = Augmentation(flip_probability=0)
    mirrored = Augmentation(flip_probability=1)
    plain = persons_of(batches_of(people, replace(SETTINGS, augmentation=upright, batch_size=11)))
    flipped = persons_of(batches_of(people, replace(SETTINGS, augmentation=mirrored, batch_size=11)))
    for i, person in plain.items():
        torch.testing.assert_close(flipped[i]["images"], person["images"].flip(-1), rtol=0, atol=0)
        expected = person["keypoints"][list(LSP14.flip_permutation)].clone()
        expected[:, 0] = 47 - expected[:, 0]
        torch.testing.assert_close(flipped[i]["keypoints"], expected, rtol=0, atol=1e-4, equal_nan=True)


def test_bgr_swaps_pixels_but_not_statistics(people):
    rgb = batches_of(people, SETTINGS, train=False)[0]["images"]
    bgr = batches_of(people, replace(SETTINGS, pixel_order="bgr"), train=False)[0]["images"]
    torch.testing.assert_close(pixels_of(bgr), pixels_of(rgb).flip(-1), rtol=0, atol=1e-3)


@pytest.mark.parametrize("train", [True, False])
def test_workers_change_nothing(people, train):
    alone = batches_of(people, SETTINGS, train, epoch=1)
    helped = batches_of(people, replace(SETTINGS, workers=2), train, epoch=1)
    assert len(alone) == len(helped) > 0
    for first, second in zip(alone, helped, strict=True):
        assert_same(first, second)


def test_persistent_workers_follow_the_epoch(people):
    loader = make_loader(people, replace(SETTINGS, workers=1), train=True)
    for epoch in (0, 1):
        loader.set_epoch(epoch)
        for first, second in zip(loader, batches_of(people, SETTINGS, epoch=epoch), strict=True):
            assert_same(first, second)


def test_augmentation_depends_on_seed_epoch_and_person_alone(people):
    by_four = persons_of(batches_of(people, SETTINGS, epoch=3))
    by_five = persons_of(batches_of(people, replace(SETTINGS, batch_size=5, image_cache_mb=0), epoch=3))
    later = persons_of(batches_of(people, SETTINGS, epoch=4))
    for i in by_four.keys() & by_five.keys():
        assert_same(by_four[i], by_five[i])
    assert any((by_four[i]["matrices"] != later[i]["matrices"]).any() for i in by_four.keys() & later.keys())


def test_training_shuffles_anew_in_every_epoch(people):
    orders = [torch.cat([b["index"] for b in batches_of(people, SETTINGS, epoch=e)]).tolist() for e in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert len(set(orders[0])) == 8  # the incomplete last batch is dropped


def test_resuming_in_mid_epoch_gives_the_rest_of_it(people):
    settings = replace(SETTINGS, batch_size=2)
    whole = batches_of(people, settings, epoch=2)
    rest = batches_of(people, settings, epoch=2, start_step=3)
    assert len(rest) == len(whole) - 3 == 2
    for first, second in zip(whole[3:], rest, strict=True):
        assert_same(first, second)


@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_processes_share_the_batches_of_one_evaluation(people, processes):
    """Whole batches, so that sums run in the same order; with four processes one of them has nothing to do."""
    alone = batches_of(people, SETTINGS, train=False)
    shares = [batches_of(people, SETTINGS, train=False, rank=rank, world_size=processes) for rank in range(processes)]
    together = [batch for share in shares for batch in share]
    assert [batch["index"].tolist() for batch in together] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    for batch, expected in zip(together, alone, strict=True):
        assert_same(batch, expected)


def test_processes_train_together_on_the_joint_batch(people):
    joint = batches_of(people, SETTINGS, epoch=1)
    shares = [
        batches_of(people, replace(SETTINGS, batch_size=2), epoch=1, rank=rank, world_size=2) for rank in range(2)
    ]
    assert len(joint) == len(shares[0]) == len(shares[1])
    for step, batch in enumerate(joint):
        together = {k: torch.cat((shares[0][step][k], shares[1][step][k])) for k in batch}
        assert_same(batch, together)


def test_the_cache_spares_reading_again(people, monkeypatch):
    from hpelib.data import image_cache as module

    paths, read = [], module.read_image
    monkeypatch.setattr(module, "read_image", lambda path: paths.append(path) or read(path))
    loader = make_loader(people, SETTINGS, train=False)
    for _ in range(2):
        list(loader)
    assert len(paths) == 4
    list(make_loader(people, replace(SETTINGS, image_cache_mb=0, batch_size=11), train=False))
    assert len(paths) == 8  # still once per image in a batch


def test_loading_leaves_the_global_random_state_alone(people):
    torch.manual_seed(0)
    state = torch.get_rng_state()
    batches_of(people, SETTINGS)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_run_brings_its_settings(people):
    @dataclass
    class Run:
        inputs: InputSettings

    assert_same(batches_of(people, Run(SETTINGS))[0], batches_of(people, SETTINGS)[0])


def test_what_cannot_be_loaded_is_refused(people):
    with pytest.raises(ValueError, match="no people"):
        make_loader(people.take([]), SETTINGS, train=False)
    with pytest.raises(ValueError, match="batch_size to at most 5"):
        make_loader(people, replace(SETTINGS, batch_size=8), train=True, world_size=2)
    with pytest.raises(ValueError, match="'rbg' is none of 'rgb', 'bgr'"):
        replace(SETTINGS, pixel_order="rbg")
    with pytest.raises(ValueError, match="batch_size"):
        replace(SETTINGS, batch_size=0)


def test_a_missing_image_is_named(people):
    lost = replace(people, image_paths=np.full(11, "nowhere/lost.jpg", object))
    with pytest.raises(FileNotFoundError, match=r"lost\.jpg"):
        batches_of(lost, replace(SETTINGS, workers=1))


def test_processes_that_load_work_below_a_long_temporary_folder(bright_spots, tmp_path, monkeypatch):
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    loader = make_loader(bright_spots(4, 80), InputSettings(batch_size=2, workers=1), train=False)
    assert tempfile.gettempdir() == "/tmp"
    assert len(list(loader)) == 2


def test_a_process_that_dies_while_it_loads_is_explained(bright_spots):
    loader = make_loader(bright_spots(4, 80), InputSettings(batch_size=2, workers=1), train=False)
    loader.crops.images.read = lambda path: os.kill(os.getpid(), signal.SIGKILL)
    with pytest.raises(RuntimeError, match=r"a process that loads pictures was ended .*inputs\.workers \(1\)"):
        list(loader)
