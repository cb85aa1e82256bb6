"""Is our training as good as the field's? MMPose's SimpleBaseline and ours on the same mannequins, for the same steps.

    python -m benchmarks.peers reports/quick/peers

Both sides have a narrow ResNet-18 with narrow deconvolutions, the same number of parameters, input, codec, mirror
augmentation, batch size, optimizer and schedule, and the same seeds. Each trains with its own code: reader, crop,
target, loss, layers, initial weights, loop, flip test and decoder. One scorer judges both: ours, from annotated boxes.
"""

import dataclasses
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.mmpose_client import HERE, NAME, environment
from hpelib.study.config import Run, load_params, make_run
from hpelib.study.steps.evaluate import make_test, test_people
from hpelib.study.steps.train import build_network, train, training_people
from hpelib.training.engine import machine_here

SEEDS = (0, 1, 2)
OPTIONS = {"width": 16, "depths": [2, 2, 2, 2], "deconv_widths": [32, 32, 32]}  # the ResNet-18 that MMPose has
BLOCKS = {"encoder": "resnet34"}  # of ResNet-18 too: basic ones
METRICS = ("AP_gt", "AP50_gt", "AP75_gt", "OKS")
OURS = "hpelib"


def peer_run(params: dict, seed: int, work: Path) -> Run:
    """SimpleBaseline with MMPose's ResNet-18 on the study's COCO set, whose files below `work` are its own."""
    run = make_run(params, "simple_baseline", "coco", seed)
    dataset = dataclasses.replace(run.dataset, work=work)
    dataset.manifest.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(run.dataset.manifest, dataset.manifest)
    recipe = dataclasses.replace(run.recipe, precision="fp32")
    return dataclasses.replace(run, options=OPTIONS | BLOCKS, dataset=dataset, recipe=recipe)


def ours(run: Run) -> dict[str, float]:
    people = training_people(run)
    network = build_network(run, people)
    train(run, network, people)
    tested = test_people(run)
    found, *_ = make_test(run, run.dataset, tested, None)(network.eval())
    return found | {"params": sum(weights.numel() for weights in network.parameters())}


def theirs(run: Run, python: Path) -> dict[str, float]:
    """MMPose's training and predictions, scored as ours are.

    Raises:
        RuntimeError: MMPose stopped; the message has its last line.
    """
    folder = run.dataset.work / f"mmpose{run.seed}"
    folder.mkdir()
    files = {
        split: {name: str((run.dataset.root / entry[name]).resolve()) for name in ("annotations", "images")}
        for split, entry in run.dataset.splits.items()
    }
    codec = {"type": "MSRAHeatmap", "input_size": run.inputs.input_size, "heatmap_size": run.inputs.heatmap_size}
    blur = 2 * (int(6 * run.inputs.sigma - 1) // 2) + 1  # px, as wide as ours
    settings = OPTIONS | {"seed": run.seed, "files": files, "batch_size": run.inputs.batch_size}
    settings |= {name: getattr(run.recipe, name) for name in ("epochs", "learning_rate", "warmup_steps")}
    settings |= {"codec": codec | {"sigma": run.inputs.sigma, "unbiased": True, "blur_kernel_size": blur}}
    (folder / "settings.json").write_text(json.dumps(settings))
    command = [python, HERE / "mmpose_train.py", folder / "settings.json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"MMPose stopped: {done.stderr.strip().splitlines()[-1]}")
    answer = json.loads((folder / "found.json").read_text())
    people, form = test_people(run), run.dataset.form
    by_id = {person["id"]: np.reshape(person["keypoints"], (-1, 3)) for person in answer["found"]}
    found = np.stack([by_id[number] for number in people.ids.tolist()])
    figures = form.figures(run.dataset, people, found[..., :2].astype(np.float32), found[..., 2], run.test.nms)
    return figures | {"params": answer["params"]}


def require_equal_sizes(figures: pd.DataFrame) -> None:
    """Check that both sides trained networks of one size.

    Raises:
        ValueError: they did not; the message has both sizes.
    """
    sizes = figures.groupby("side")["params"].unique().map(list).to_dict()
    if figures["params"].nunique() != 1:
        raise ValueError(f"the sides trained networks of different numbers of parameters: {sizes}")


def compare(figures: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over seeds of both sides, and their difference with a 95 % interval (Welch).

    `figures` has the columns side, seed and the figures in percent.
    """
    rows = []
    for metric in METRICS:
        mine, other = (figures.loc[figures["side"] == side, metric] for side in (OURS, NAME))
        interval = stats.ttest_ind(mine, other, equal_var=False).confidence_interval()
        cells = {side: f"{values.mean():.1f} ± {values.std():.1f}" for side, values in ((OURS, mine), (NAME, other))}
        cells["difference"] = f"{mine.mean() - other.mean():+.1f} [{interval.low:+.1f}, {interval.high:+.1f}]"
        rows.append({"figure": metric} | cells)
    return pd.DataFrame(rows)


def page(figures: pd.DataFrame, run: Run) -> str:
    width, height = run.inputs.input_size
    return f"""# Peers: the same network trained by MMPose and by this library

**Question.** Is our training as good as the field's? A difference here would be in every figure of this study.

Made by `python -m benchmarks.peers FOLDER`, on {machine_here("cpu")}. Data: {run.dataset.source} in COCO's format,
profile `{run.profile}`, {len(test_people(run))} test persons. Network: SimpleBaseline with a ResNet-18 of width 16 and
{figures["params"].iloc[0]:,.0f} parameters on both sides, input {width}x{height} px, {run.recipe.epochs} epochs of
batches of {run.inputs.batch_size}, Adam, learning rate {run.recipe.learning_rate}, cosine, mirrored half of the time,
fp32, seeds {", ".join(map(str, SEEDS))}. Each side reads, crops, draws targets, trains, flips and decodes by its own
code; one scorer judges both, from annotated boxes.

{compare(figures).to_markdown(index=False, disable_numparse=True)}

Cells: mean ± standard deviation over seeds, in percent. The interval of the difference is over seeds (Welch's t); both
sides are tested on the same persons.
"""


def main(folder: Path) -> None:
    params, python = load_params(), environment()
    rows = []
    with tempfile.TemporaryDirectory() as work:
        for seed in SEEDS:
            run = peer_run(params, seed, Path(work))
            for side, figures in ((OURS, ours(run)), (NAME, theirs(run, python))):
                rows.append({"side": side, "seed": seed} | figures)
                print(side, seed, *(f"{name} {figures[name]:.1f}" for name in METRICS), flush=True)
            require_equal_sizes(pd.DataFrame(rows))
        table = pd.DataFrame(rows)
        folder.mkdir(parents=True, exist_ok=True)
        columns = ["side", "seed", "params", *METRICS]
        table[columns].to_csv(folder / "peers.csv", index=False, float_format="%.4f")
        (folder / "README.md").write_text(page(table, run))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
