"""Write a trained run as an ONNX file that takes pixels of crops and gives keypoints.

    python -m hpelib.study.tools.export hrnet coco 0 hrnet.onnx

The graph holds the normalisation, the network, the flip test and the decoder. It is compared with the library on crops
of the test split before it is written.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from hpelib.data.crops import crop_person
from hpelib.export import export_onnx
from hpelib.study.config import Run, load_params, make_run
from hpelib.study.steps.prepare import read_split
from hpelib.study.steps.weights import load_network

CROPS = 8  # that the graph is compared on


def export(run: Run, path: Path, flip_test: bool = True, force: bool = False) -> dict[str, float]:
    """Write the trained network of `run` as ONNX; returns the largest differences, as `export_onnx` does.

    Raises:
        FileNotFoundError: the run was not trained.
        FileExistsError: there is a file at `path`.
        ValueError: the weights are of other settings, or onnxruntime gives other keypoints than the library.
    """
    if path.exists():
        raise FileExistsError(f"{path} is there already; give another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    people = read_split(run.dataset, "test")
    network = load_network(run, people, force).cpu()
    crops = np.stack([crop_person(people, person, run.inputs).pixels for person in range(min(CROPS, len(people)))])
    pixels = torch.from_numpy(crops).permute(0, 3, 1, 2).float()  # (N, 3, H, W)
    return export_onnx(network, run.inputs, people.skeleton, pixels, path, flip_test)


if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m hpelib.study.tools.export", description=__doc__.splitlines()[0])
    parser.add_argument("network", help="a network of the current profile in params.yaml")
    parser.add_argument("dataset", help="the dataset that it was trained on")
    parser.add_argument("seed", type=int)
    parser.add_argument("path", type=Path, help="of the file to write, such as hrnet.onnx")
    parser.add_argument("--no-flip", action="store_true", help="leave out the flip test, which doubles the cost")
    parser.add_argument("--force", action="store_true", help="use weights that were trained under other settings")
    given = parser.parse_args()
    run = make_run(load_params(), given.network, given.dataset, given.seed)
    found = export(run, given.path, not given.no_flip, given.force)
    print(f"{given.path}: keypoints differ from the library's by at most {found['keypoints_px']:.1g} px")
