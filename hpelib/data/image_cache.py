"""Decoded images, kept once for all workers of a loader: decoding is most of what an augmented crop costs."""

import mmap
from collections.abc import Sequence
from multiprocessing import Lock

import numpy as np

from hpelib.data.crops import read_image

ABSENT = -1


class ImageCache:
    """Images by path, decoded once whichever of the forked workers asks first; memory is taken as they come.

    Images stay until `capacity_mb` are full, later ones are decoded at every visit: under random visits that hits more
    often than evicting the oldest. Workers that are spawned instead (macOS, Windows) fill a cache each.
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
        """Image (H, W, 3) uint8 RGB, not to be written to; errors are those of `read_image`."""
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
    """Zeros (count,) in memory that processes forked later share; untouched, they take none."""
    size = max(1, count) * np.dtype(dtype).itemsize  # a map of nothing is an error
    return np.frombuffer(mmap.mmap(-1, size), dtype)[:count]
