"""From picture files to network inputs and targets, per core: 256x192, HRNet's augmentation, MSRA targets.

Both end with crops as bytes and heatmaps, as MMPose's pipeline does; a last row has the library normalise them, too,
which both do on the device.
"""

import numpy as np

from benchmarks.mmpose_client import NAME, MMPose, case
from benchmarks.photographs import Photographs
from benchmarks.timing import Comparison, compare
from hpelib.data.loader import InputSettings, PeopleLoader, make_loader

ROUNDS = 9
BATCH_SIZE = 32


def measure(photographs: Photographs, mmpose: MMPose | str) -> list[Comparison]:
    """An epoch in which every image is decoded, and those after it, against MMPose, which always decodes."""
    people = photographs.people()
    settings = InputSettings(batch_size=min(BATCH_SIZE, len(people)), image_cache_mb=4000)
    later = make_loader(people, settings, train=True)
    items = len(later) * settings.batch_size  # an epoch drops the incomplete last batch
    files = str(photographs.annotations.resolve()), f"{photographs.images.resolve()}/"
    others = {NAME: case(mmpose, "crops", *files, people.ids[:items].tolist())}
    cases = {
        "first epoch": lambda: _epoch(make_loader(people, settings, train=True), 0),
        "later epochs": lambda: _epoch(later, _any_epoch()),
        "later epochs, normalised": lambda: normalised_epoch(later, _any_epoch()),
    }
    return [
        comparison
        for name, ours in cases.items()
        for comparison in compare(f"{photographs.name}, {name}", ours, others, items, ROUNDS)
    ]


def _any_epoch() -> int:
    return int(np.random.default_rng().integers(1000))


def _epoch(loader: PeopleLoader, epoch: int) -> None:
    loader.set_epoch(epoch)
    for request in loader.batches:
        batch = loader.crops[request]
        loader.codec.encode(batch["keypoints"], batch["visible"])


def normalised_epoch(loader: PeopleLoader, epoch: int) -> None:
    """All that a training step is given."""
    loader.set_epoch(epoch)
    for batch in loader:
        loader.codec.encode(batch["keypoints"], batch["visible"])
