"""Copy trained weights into the repository, in half precision, so that others can look before they train.

    python -m hpelib.study.tools.ship coco

writes weights/PROFILE/coco/NETWORK.safetensors for the first seed of every network of the current profile. Notebooks
that look into networks take these where nothing was trained.
"""

from functools import partial
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from hpelib.data.files import write_whole
from hpelib.study.command import call
from hpelib.study.config import Run, load_params, networks_on, study_runs
from hpelib.study.steps.weights import SHIPPED, weights_path

LARGEST_MB = 12.0  # of all files of a profile: they stay in the history of the repository


def ship(runs: list[Run]) -> float:
    """Copy the weights of `runs`, all of one profile, to their places below `SHIPPED`; returns their size in MB.

    Kernels become half precision. Vectors, such as those of batch norms, stay as they are: they are small, and a
    variance may exceed what half precision can hold. The header goes along.

    Raises:
        FileNotFoundError: a run was not trained.
        ValueError: all files together would be larger than `LARGEST_MB`.
    """
    folder = SHIPPED / runs[0].profile
    files = {folder / run.dataset.name / f"{run.network}.safetensors": _halved(weights_path(run)) for run in runs}
    size_mb = sum(tensor.nbytes for weights, _ in files.values() for tensor in weights.values()) / 1e6
    others = [path for path in folder.rglob("*.safetensors") if path not in files]
    all_mb = size_mb + sum(path.stat().st_size for path in others) / 1e6
    if all_mb > LARGEST_MB:
        raise ValueError(f"the profile's weights would take {all_mb:.1f} MB, the repository takes {LARGEST_MB} at most")
    for path, (weights, header) in files.items():
        write_whole(path, partial(save_file, weights, metadata=header))
    return size_mb


def _halved(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with safe_open(path, "pt") as stored:
        weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        header = stored.metadata()
    kernels = {name for name, tensor in weights.items() if tensor.ndim > 1 and tensor.is_floating_point()}
    return {name: tensor.half() if name in kernels else tensor for name, tensor in weights.items()}, header


def main(dataset: str) -> None:
    params = load_params()
    runs = [study_runs(params, network, dataset)[0] for network in networks_on(params, dataset)]
    print(f"{len(runs)} networks, {ship(runs):.1f} MB in {SHIPPED}/{params['profile']}/{dataset}")


if __name__ == "__main__":
    call(main)
