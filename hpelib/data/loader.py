"""Batches for the networks: crops, keypoints in crop px, and where each came from.

Worker processes decode and warp the images. Pixels travel as uint8 and are normalised on the target device. Heatmaps
are not made here: `Codec.encode` renders them where the network runs.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np

from hpelib.data.augment import Augmentation, CropPlan, draw, plain
from hpelib.data.crops import crop_matrix, to_crop, warp
from hpelib.data.image_cache import ImageCache
from hpelib.data.people import People
from hpelib.layers.choices import Count, Positive, Whole, require_choice, require_types

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from hpelib.codecs import Codec

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
LONGEST_FOLDER = 60  # characters of the folder for temporary files; the name of a socket in it has 107 at most


@dataclass(frozen=True)
class InputSettings:
    """What a network is fed; sizes are (width, height)."""

    codec: str = "msra"
    input_size: tuple[Count, Count] = (192, 256)
    heatmap_size: tuple[Count, Count] = (48, 64)
    sigma: Positive = 2.0  # heatmap px
    batch_size: Count = 32  # per process
    workers: Whole = 0
    seed: Whole = 0
    augmentation: Augmentation | None = field(default_factory=Augmentation)  # in training only
    pixel_order: str = "rgb"  # "bgr" for the official SimpleBaseline weights, with the RGB statistics all the same
    image_cache_mb: Whole = 512  # decoded images kept, for all workers of a process together

    def __post_init__(self):
        require_types("inputs", InputSettings, vars(self))
        require_choice("inputs: pixel_order", self.pixel_order, ("rgb", "bgr"))

    def make_codec(self) -> "Codec":
        from hpelib.codecs import make_codec  # here, because readers of annotations import this package without torch

        return make_codec(self.codec, self.input_size, self.heatmap_size, self.sigma)


class HasInputs(Protocol):
    """Anything that says what its network is fed, such as a run of the study."""

    @property
    def inputs(self) -> InputSettings: ...


class Crops:
    """Whole batches of crops, without torch: `crops[epoch, indices]` is always the same batch for the same arguments.

    A batch is as `make_loader` describes it, but its images are (B, H, W, 3) uint8.

    Example: `crops[0, np.array([3])]["images"][0]` is the crop of the fourth person in the first epoch.
    """

    def __init__(self, people: People, settings: InputSettings, train: bool, images: ImageCache | None = None):
        self.people = people
        self.settings = settings
        self.augmentation = settings.augmentation if train else None
        self._plan: tuple[int, CropPlan] = (-1, plain(people, settings.input_size))
        self.images = images or ImageCache(people.image_paths, settings.image_cache_mb)

    def __getitem__(self, request: tuple[int, np.ndarray]) -> dict[str, np.ndarray]:
        epoch, indices = request
        indices = np.asarray(indices)
        plan, people, settings = self.plan(epoch), self.people, self.settings
        flips = plan.flips[indices]
        regions = plan.centers[indices], plan.sizes_px[indices]
        udp = settings.codec == "udp"
        matrices = crop_matrix(*regions, settings.input_size, plan.rotations_deg[indices], udp=udp)
        images = self._crops(people.image_paths[indices], matrices, flips)

        # pixels are mirrored after the warp and not by it, so that a flipped crop is exactly the mirrored crop
        matrices[flips, 0] *= -1
        matrices[flips, 0, 2] += settings.input_size[0] - 1
        mirrored = np.array(people.skeleton.flip_permutation)
        order = np.where(flips[:, None], mirrored, np.arange(len(mirrored)))  # (B, K)
        keypoints = np.take_along_axis(to_crop(people.keypoints[indices], matrices), order[..., None], 1)
        visible = np.take_along_axis(people.visibility[indices], order, 1)
        batch = {"images": images, "keypoints": keypoints, "visible": visible, "matrices": matrices}
        return batch | {"ids": people.ids[indices], "index": indices}

    def plan(self, epoch: int) -> CropPlan:
        """The regions of all persons in `epoch`. Without augmentation they are the same in every epoch."""
        if self.augmentation is not None and self._plan[0] != epoch:
            size, seed = self.settings.input_size, self.settings.seed
            self._plan = epoch, draw(self.people, self.augmentation, size, seed, epoch)
        return self._plan[1]

    def _crops(self, paths: np.ndarray, matrices: np.ndarray, flips: np.ndarray) -> np.ndarray:
        width, height = self.settings.input_size
        crops = np.empty((len(paths), height, width, 3), np.uint8)
        unique_paths, owners = np.unique(paths, return_inverse=True)  # persons often share an image
        for owner, path in enumerate(unique_paths):
            image = self.images.read(path)
            for row in np.flatnonzero(owners == owner):
                crop = warp(image, matrices[row], (width, height))
                crops[row] = cv2.flip(crop, 1) if flips[row] else crop
        return crops


class Batches:
    """Requests (epoch, indices) to `Crops` for one process of several.

    In training, persons are shuffled by (seed, epoch) and the incomplete last batch is dropped. In each step, all
    processes together take the persons that one process with their joint batch size would take. In evaluation, every
    person comes once and in order. Each process takes a contiguous share of the batches that one process would make, so
    that predictions are equal to the bit for any number of processes.
    """

    def __init__(self, people_count: int, settings: InputSettings, train: bool, rank: int, world_size: int):
        self.people_count, self.batch_size, self.seed = people_count, settings.batch_size, settings.seed
        self.train, self.rank, self.world_size = train, rank, world_size
        self.step_size = self.batch_size * world_size  # persons in the batches of all processes together
        self.epoch = self.start_step = 0

    def __len__(self) -> int:
        """Steps of a whole epoch."""
        if self.train:
            return self.people_count // self.step_size
        return -(-len(self._share()) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[int, np.ndarray]]:
        share = self._share()
        for step in range(self.start_step, len(self)):
            yield self.epoch, share[step * self.batch_size : (step + 1) * self.batch_size]

    def _share(self) -> np.ndarray:
        if not self.train:
            starts = np.arange(0, self.people_count, self.batch_size)
            own = np.array_split(starts, self.world_size)[self.rank]
            return np.arange(own[0], min(own[-1] + self.batch_size, self.people_count)) if len(own) else own
        random = np.random.default_rng([self.seed, self.epoch, 1])  # apart from the stream of augment.draw
        steps = len(self)
        shuffled = random.permutation(self.people_count)[: steps * self.step_size]
        return shuffled.reshape(steps, self.world_size, self.batch_size)[:, self.rank].ravel()


class PeopleLoader:
    """Iterates over batches on `device`, which `make_loader` describes. `len` is the number of steps in an epoch."""

    def __init__(self, crops: Crops, batches: Batches, device: "torch.device"):
        import torch
        from torch.utils.data import DataLoader

        self.people, self.settings, self.device = crops.people, crops.settings, device
        self.crops, self.batches = crops, batches
        self.codec: Codec = self.settings.make_codec()
        workers = self.settings.workers
        if workers and len(tempfile.gettempdir()) > LONGEST_FOLDER:  # they answer through sockets
            tempfile.tempdir = "/tmp"
        self._loader = DataLoader(
            crops,
            sampler=batches,
            batch_size=None,  # the sampler's requests are batches already
            num_workers=workers,
            persistent_workers=workers > 0,  # to start them takes seconds
            pin_memory=device.type == "cuda",
            worker_init_fn=_start_worker,
            generator=torch.Generator(),  # leaves the global one, which a resumed run restores, alone
        )
        std = torch.tensor(IMAGENET_STD, device=device)
        width = self.settings.input_size[0]
        self._gain = (1 / (255 * std)).repeat(width)  # of a whole row of pixels
        self._offset = (torch.tensor(IMAGENET_MEAN, device=device) / std).repeat(width)

    def set_epoch(self, epoch: int, start_step: int = 0) -> None:
        """Choose the epoch to iterate next. A resumed run skips its first `start_step` steps, which it has made."""
        self.batches.epoch, self.batches.start_step = epoch, start_step

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[dict[str, "Tensor"]]:
        for batch in self._alive():
            batch = {name: value.to(self.device, non_blocking=True) for name, value in batch.items()}
            yield batch | {"images": self._normalised(batch["images"])}

    def _alive(self) -> Iterator[dict[str, "Tensor"]]:
        try:
            yield from self._loader
        except RuntimeError as error:
            if "exited unexpectedly" not in str(error):
                raise
            raise RuntimeError(
                f"a process that loads pictures was ended from outside ({error}); often the memory was full: lower "
                f"inputs.workers ({self.settings.workers}) or image_cache_mb ({self.settings.image_cache_mb})"
            ) from error

    def _normalised(self, pixels: "Tensor") -> "Tensor":
        if self.settings.pixel_order == "bgr":
            pixels = pixels.flip(-1)
        # whole rows at once: to broadcast over the three channels takes a CPU four times as long
        rows = pixels.flatten(2).float()  # (B, H, W * 3)
        rows = rows.mul_(self._gain).sub_(self._offset)
        return rows.unflatten(2, (-1, 3)).permute(0, 3, 1, 2)  # (B, 3, H, W), channels last in memory


def make_loader(
    people: People,
    settings: InputSettings | HasInputs,
    train: bool,
    device: "torch.device | str" = "cpu",
    rank: int = 0,
    world_size: int = 1,
    images: ImageCache | None = None,
) -> PeopleLoader:
    """Batches of `people`, each a dict of tensors on `device`.

    images    (B, 3, H, W) float32, normalised by the ImageNet statistics, channels last in memory
    keypoints (B, K, 2) float32 crop px, NaN where not labelled
    visible   (B, K) uint8, as `People.visibility`
    matrices  (B, 2, 3) float64, image px to crop px
    ids       (B,) annotation ids
    index     (B,) positions in `people`

    In training, batches are shuffled and augmented, and the incomplete last one is dropped. In evaluation, every person
    comes once and in order. `settings` may also be a run, whose `inputs` are then taken. Process `rank` of `world_size`
    gets its share. Loaders of the same pictures may share the decoded `images`.

    Raises:
        ValueError: there are no people, or fewer than one step of training takes.
    """
    import torch

    settings = settings if isinstance(settings, InputSettings) else settings.inputs
    if not len(people):
        raise ValueError("no people to load: check the annotation file and the split")
    batches = Batches(len(people), settings, train, rank, world_size)
    if train and not len(batches):
        raise ValueError(
            f"{len(people)} people do not fill one step of {world_size} x batch_size {settings.batch_size}: "
            f"set batch_size to at most {len(people) // world_size}"
        )
    return PeopleLoader(Crops(people, settings, train, images), batches, torch.device(device))


def _start_worker(worker: int) -> None:
    cv2.setNumThreads(0)  # parallelism comes from the workers
