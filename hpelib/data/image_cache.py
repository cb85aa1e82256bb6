"""Decoded images, kept once for all workers of a loader. Decoding is most of what an augmented crop costs."""

import mmap
from collections.abc import Sequence
from multiprocessing import Lock

import numpy as np

from hpelib.data.crops import read_image

ABSENT = -1


class ImageCache:
    """Images by path. The first of the forked workers that asks for an image decodes it for all; memory grows with use.

    Images are kept until `capacity_mb` are full; all others are decoded at every visit. Where visits are random, this
    finds images more often than a cache that drops the oldest. Workers that are spawned and not forked (macOS, Windows)
    fill a cache each.
    """

    def __init__(self, paths: Sequence[str], capacity_mb: int):
        self._rows = {path: row for row, path in enumerate(dict.fromkeys(paths))}
        self._capacity_mb = capacity_mb
        self._pixels = _shared(capacity_mb * 2**20, np.uint8)
        self._starts = _shared(len(self._rows), np.int64)  # where an image lies in `_pixels`
        self._starts[:] = ABSENT
        self._shapes = _shared(3 * len(self._rows), np.int64).reshape(-1, 3)  # zero until its pixels are there
        self._used_bytes = _shared(1, np.int64)
        self._lock = Lock()

    def __reduce__(self):
        return ImageCache, (list(self._rows), self._capacity_mb)  # shared memory is inherited, never sent

    def read(self, path: str) -> np.ndarray:
        """Image (H, W, 3) uint8 RGB, which must not be written to. Errors are those of `read_image`."""
        row = self._rows[path]
        with self._lock:
            start, shape = self._starts[row], tuple(self._shapes[row])
        if shape[0]:
            return self._pixels[start : start + np.prod(shape)].reshape(shape)
        image = read_image(path)
        self._keep(row, image)
        return image

    def _keep(self, row: int, image: np.ndarray) -> None:
        with self._lock:
            start = self._used_bytes[0]
            if self._starts[row] != ABSENT or start + image.nbytes > self._capacity_mb * 2**20:
                return
            self._starts[row] = start
            self._used_bytes += image.nbytes
        self._pixels[start : start + image.nbytes] = image.ravel()  # outside the lock: no other has this place
        with self._lock:
            self._shapes[row] = image.shape


def _shared(count: int, dtype: type) -> np.ndarray:
    """Zeros (count,) in memory that all processes forked later share. Pages that nobody has touched take no memory."""
    size = max(1, count) * np.dtype(dtype).itemsize  # a map of nothing is an error
    return np.frombuffer(mmap.mmap(-1, size), dtype)[:count]
