"""SimpleBaseline as MMPose builds, trains and tests it, on a set in COCO's layout: MMPose's side of `benchmarks.peers`.

    python mmpose_train.py settings.json

runs in MMPose's own environment. The settings are those that `benchmarks.peers` writes: files, sizes and recipe. It
writes predictions from annotated boxes as a COCO results file, unscored.
"""

import json
import sys
from pathlib import Path
from unittest.mock import MagicMock

import cv2
import numpy as np
import torch
from mmengine.registry import init_default_scope

sys.modules["mmcv.ops"] = MagicMock(__spec__=None, __path__=[])  # compiled operators, which nothing here uses
from mmengine.config import Config  # noqa: E402
from mmengine.dataset import pseudo_collate  # noqa: E402
from mmengine.runner import Runner  # noqa: E402
from mmpose.datasets import CocoDataset  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402


def model(settings: dict) -> dict:
    """The model zoo's td-hm_res50 config with a narrow ResNet-18 and narrow deconvolutions."""
    return {
        "type": "TopdownPoseEstimator",
        "data_preprocessor": {
            "type": "PoseDataPreprocessor",
            "mean": [123.675, 116.28, 103.53],
            "std": [58.395, 57.12, 57.375],
            "bgr_to_rgb": True,
        },
        "backbone": {"type": "ResNet", "depth": 18}
        | {"stem_channels": 64, "base_channels": settings["width"]},  # timm's stem is always 64 wide
        "head": {
            "type": "HeatmapHead",
            "in_channels": 8 * settings["width"],
            "out_channels": 17,
            "deconv_out_channels": tuple(settings["deconv_widths"]),
            "deconv_kernel_sizes": (4, 4, 4),
            "loss": {"type": "KeypointMSELoss", "use_target_weight": True},
            "decoder": settings["codec"],
        },
        "test_cfg": {"flip_test": True, "flip_mode": "heatmap", "shift_heatmap": True},
    }


def people(settings: dict, split: str, train: bool) -> CocoDataset:
    size = {"type": "TopdownAffine", "input_size": settings["codec"]["input_size"]}
    target = [{"type": "GenerateTarget", "encoder": settings["codec"]}] if train else []
    flip = [{"type": "RandomFlip", "direction": "horizontal"}] if train else []
    pipeline = [{"type": "LoadImage"}, {"type": "GetBBoxCenterScale"}, *flip, size, *target, {"type": "PackPoseInputs"}]
    files = settings["files"][split]
    return CocoDataset(
        ann_file=files["annotations"],
        data_prefix={"img": files["images"]},
        data_mode="topdown",
        test_mode=not train,
        pipeline=pipeline,
    )


def train(settings: dict, folder: str) -> torch.nn.Module:
    persons = people(settings, "train", train=True)
    steps = settings["epochs"] * (len(persons) // settings["batch_size"])
    warmup = settings["warmup_steps"]
    runner = Runner(
        model=model(settings),
        work_dir=folder,
        train_dataloader={
            "batch_size": settings["batch_size"],
            "num_workers": 0,
            "dataset": persons,
            "sampler": {"type": "DefaultSampler", "shuffle": True},
            "collate_fn": {"type": "pseudo_collate"},
            "drop_last": True,
        },
        train_cfg={"by_epoch": True, "max_epochs": settings["epochs"]},
        optim_wrapper={"optimizer": {"type": "Adam", "lr": settings["learning_rate"]}},
        param_scheduler=[
            {"type": "LinearLR", "begin": 0, "end": warmup, "start_factor": 0.001, "by_epoch": False},
            {"type": "CosineAnnealingLR", "begin": 0, "end": steps, "T_max": steps, "by_epoch": False},
        ],
        default_hooks={"checkpoint": None},
        randomness={"seed": settings["seed"]},
        default_scope="mmpose",
        cfg=Config({}),
        experiment_name=f"seed{settings['seed']}",
    )
    runner.train()
    return runner.model


@torch.no_grad()
def test(network: torch.nn.Module, settings: dict) -> list[dict]:
    network.eval()
    persons = people(settings, "test", train=False)
    found = []
    for batch in DataLoader(persons, settings["batch_size"], collate_fn=pseudo_collate):
        for sample in network.test_step(batch):
            points, scores = sample.pred_instances.keypoints[0], sample.pred_instances.keypoint_scores[0]
            keypoints = np.concatenate([points, scores[:, None]], axis=1).ravel().tolist()
            found.append({"id": int(sample.metainfo["id"]), "keypoints": [float(value) for value in keypoints]})
    return found


def main(path: Path) -> None:
    settings = json.loads(path.read_text())
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    init_default_scope("mmpose")
    network = train(settings, str(path.parent / "mmpose"))
    answer = {"params": sum(weights.numel() for weights in network.parameters()), "found": test(network, settings)}
    path.with_name("found.json").write_text(json.dumps(answer))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
