"""The image cache: the pixels of the files, read once by all processes together, within its capacity."""

import pickle
from multiprocessing import get_all_start_methods, get_context
from pathlib import Path

import cv2
import numpy as np
import pytest

from hpelib.data.crops import read_image
from hpelib.data.image_cache import ImageCache

SIZES = [(400, 300), (300, 500), (640, 480)]  # (height, width): 0.34, 0.43 and 0.88 MB


@pytest.fixture
def paths(tmp_path):
    random = np.random.default_rng(0)
    for i, size in enumerate(SIZES):
        cv2.imwrite(str(tmp_path / f"{i}.png"), random.integers(0, 256, (*size, 3), np.uint8))
    return [str(tmp_path / f"{i}.png") for i in range(len(SIZES))]


def test_kept_images_equal_the_files(paths):
    cache = ImageCache(paths, capacity_mb=2)
    expected = [read_image(path) for path in paths]
    for _ in range(2):
        for path, image in zip(paths, expected, strict=True):
            np.testing.assert_array_equal(cache.read(path), image)


@pytest.mark.parametrize(("capacity_mb", "kept"), [(0, []), (1, [0, 1]), (2, [0, 1, 2])])
def test_what_exceeds_the_capacity_is_read_again(paths, capacity_mb, kept):
    cache = ImageCache([*paths, *paths], capacity_mb)
    for path in paths:
        cache.read(path)
        Path(path).unlink()
    for i, path in enumerate(paths):
        if i in kept:
            assert cache.read(path).shape == (*SIZES[i], 3)
        else:
            with pytest.raises(FileNotFoundError, match=f"{i}.png"):
                cache.read(path)


@pytest.mark.skipif("fork" not in get_all_start_methods(), reason="memory is forked")
def test_processes_share_what_one_of_them_read(paths):
    cache = ImageCache(paths, capacity_mb=2)
    expected = read_image(paths[1])
    process = get_context("fork").Process(target=cache.read, args=(paths[1],))
    process.start()
    process.join()
    Path(paths[1]).unlink()
    np.testing.assert_array_equal(cache.read(paths[1]), expected)


def test_a_copy_sent_to_a_process_starts_empty(paths):
    cache = ImageCache(paths, capacity_mb=2)
    expected = cache.read(paths[0]).copy()
    copy = pickle.loads(pickle.dumps(cache))
    np.testing.assert_array_equal(copy.read(paths[0]), expected)
    Path(paths[2]).unlink()
    with pytest.raises(FileNotFoundError):
        copy.read(paths[2])
