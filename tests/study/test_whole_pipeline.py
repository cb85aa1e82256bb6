"""The whole study at its smallest, in a clone of its own: from rendering people to the index of reports/.

Then a network and a format are added to the clone, each with its own files and its lines in params.yaml.
"""

import csv
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DATASETS, PERSONS = ["coco", "mpii"], {"train": 40, "val": 12, "test": 12}
ROWS = ("baseline", "full")  # of DE-HRNet's ablations, which stand for all papers'
WORK, REPORTS = "work/quick", "reports/quick"


class Clone:
    """A copy of the working tree as a repository of its own with tiny parameters."""

    def __init__(self, root: Path):
        self.root = root
        self.params = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
        self.params |= {"datasets": DATASETS, "networks": ["hrnet", "de_hrnet"], "seeds": [0], "ablation_seeds": [0]}
        self.params |= {"extra": {"datasets": ["lsp"], "networks": ["hrnet"]}, "control": "hrnet"}
        ablation = self.params["ablations"]["de_hrnet"]
        self.params["ablations"] = {"de_hrnet": ablation | {"rows": {row: ablation["rows"][row] for row in ROWS}}}
        for profile in self.params["profiles"].values():  # recipes of rows that are gone
            if "paper_recipes" in profile:
                profile["paper_recipes"] = {
                    name: own for name, own in profile["paper_recipes"].items() if name == "de_hrnet"
                }
        profile = self.profile = self.params["profiles"]["quick"]
        profile["mannequins"]["plain"]["persons"] = PERSONS
        profile["inputs"]["batch_size"] = 8
        profile["recipe"] |= {"epochs": 1, "warmup_steps": 0}
        profile["stress"]["persons"] = 5
        profile["paper_recipes"]["de_hrnet"] = {}
        self.write_params()
        sizes = root / "data/paper_sizes.csv"
        sizes.write_text("".join(sizes.read_text().splitlines(keepends=True)[:3]))
        known = ["hrnet", "de_hrnet", *(f"de_hrnet:{row}" for row in ROWS)]
        self.keep("data/claims.csv", lambda row: {row["better"], row["worse"]} <= set(known))
        self.keep("data/paper_results.csv", lambda row: row["paper"] == "de_hrnet" and row["entry"] in known)
        self.run("git", "init", "--quiet")
        self.run("git", "add", ".")
        self.run("git", "-c", "user.name=A", "-c", "user.email=a@b.c", "commit", "--quiet", "--message", "Start")

    def write_params(self) -> None:
        (self.root / "params.yaml").write_text(yaml.safe_dump(self.params, sort_keys=False))

    def keep(self, name: str, wanted: Callable[[dict], bool]) -> None:
        """Leave only some rows of a table."""
        with (self.root / name).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        with (self.root / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(filter(wanted, rows))

    def python(self, *arguments: str) -> str:
        return self.run(sys.executable, *arguments)

    def study(self, *stages: str) -> set[str]:
        """Run the study, or the part of it that leads to `stages`. Return what ran."""
        (self.root / "logs/study.csv").unlink(missing_ok=True)
        assert self.python("-m", "hpelib.study.run", "--jobs", "2", *stages).splitlines()[-1].startswith("Done")
        lines = (self.root / "logs/study.csv").read_text().splitlines()[1:]
        return {line.split(",")[0] for line in lines} - {"plan"}

    def run(self, *command: str) -> str:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = os.environ | {"PATH": path, "PYTHONPATH": str(self.root)}
        finished = subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True)
        assert finished.returncode == 0, finished.stdout[-4000:] + finished.stderr[-4000:]
        return finished.stdout

    def contents(self, folder: str) -> dict[str, bytes]:
        paths = [path for path in (self.root / folder).rglob("*") if path.is_file()]
        return {path.relative_to(self.root).as_posix(): path.read_bytes() for path in paths}

    def metrics(self, dataset: str) -> dict:
        return json.loads((self.root / f"{REPORTS}/{dataset}/metrics.json").read_text())[dataset]


@pytest.fixture(scope="module")
def clone(tmp_path_factory, copy_working_tree) -> Clone:
    """A clone whose study was run once."""
    root = tmp_path_factory.mktemp("clone")
    copy_working_tree(root)
    clone = Clone(root)
    clone.study()
    return clone


def test_every_network_stands_in_every_report(clone):
    page = (clone.root / f"{REPORTS}/README.md").read_text(encoding="utf-8")
    for dataset in DATASETS:
        section = page.split(f"\n## {dataset}\n")[1].split("\n## ")[0]
        assert len(clone.metrics(dataset)) == len(clone.params["networks"])
        for network in clone.params["networks"]:
            assert re.search(rf"^\| {network} ", section, re.M)
        assert "not run" not in section
        persons = int(re.search(r"(\d+) persons of the test split", section)[1])
        assert persons >= PERSONS["test"]


def test_links_of_the_index_lead_somewhere(clone):
    page = (clone.root / f"{REPORTS}/README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page)
    assert len(links) >= 4 * len(DATASETS)
    for link in links:
        root = ROOT if link.endswith(("benchmarks.md", "reports/README.md")) else clone.root  # no stage makes those
        assert (root / REPORTS / link).resolve().is_file(), link


def test_results_say_nothing_of_this_machine(clone):
    results = clone.contents("reports") | clone.contents(WORK)
    for name, content in results.items():
        if not name.endswith((".png", ".jpg")):
            assert str(clone.root).encode() not in content, name
            assert sys.prefix.encode() not in content, name
        if name.endswith(".ipynb"):
            cells = json.loads(content)["cells"]
            outputs = [output for cell in cells for output in cell.get("outputs", [])]
            assert outputs, name
            assert not [output for output in outputs if output["output_type"] == "error"], name


def test_afterwards_everything_is_up_to_date_and_nothing_runs_again(clone):
    assert json.loads(clone.python("-m", "dvc", "status", "--json")) == {}
    before = {name: (clone.root / name).stat().st_mtime_ns for name in clone.contents("reports")}
    lock = (clone.root / "dvc.lock").read_bytes()
    assert "up to date" in clone.python("-m", "hpelib.study.run", "--jobs", "2")
    assert {name: (clone.root / name).stat().st_mtime_ns for name in clone.contents("reports")} == before
    assert (clone.root / "dvc.lock").read_bytes() == lock


def test_a_stage_repeated_by_hand_or_by_dvc_gives_the_same_bytes(clone):
    """The control trains and evaluates, each by a command of its own; here they are two processes."""
    lock = yaml.safe_load((clone.root / "dvc.lock").read_text())["stages"]
    before = clone.contents(f"{WORK}/control/coco")
    assert any(name.endswith("weights.safetensors") for name in before)
    for name in before:
        (clone.root / name).unlink()
    for command in lock["control@coco"]["cmd"]:
        clone.run(*shlex.split(command))
    assert clone.contents(f"{WORK}/control/coco") == before
    before = clone.contents(REPORTS)
    clone.python("-m", "dvc", "repro", "--quiet", "--force", "--single-item", "tables@coco")
    assert clone.contents(REPORTS) == before


def test_a_remark_runs_nothing_again(clone):
    path = clone.root / "hpelib/study/steps/train.py"
    path.write_text(path.read_text(encoding="utf-8") + "\n# a remark\n", encoding="utf-8")
    lock = yaml.safe_load((clone.root / "dvc.lock").read_text())["stages"]
    clone.python("-m", "dvc", "repro", "--quiet", "plan")
    assert json.loads(clone.python("-m", "dvc", "status", "--json")) == {}
    after = yaml.safe_load((clone.root / "dvc.lock").read_text())["stages"]
    assert {name for name in after if after[name] != lock[name]} == {"plan"}


def test_a_network_is_added_with_its_file_and_its_record(clone):
    """Those of docs/experiments.md. No other network trains again."""
    guide = (ROOT / "docs/experiments.md").read_text(encoding="utf-8").split("\n## Add a network of your own\n")[1]
    (clone.root / "hpelib/models/my_net.py").write_text(re.search(r"```python\n(.*?)```", guide, re.S)[1])
    (clone.root / "hpelib/records/my_net.yaml").write_text(re.search(r"```yaml\n(.*?)```", guide, re.S)[1])
    clone.profile["networks"] |= yaml.safe_load(f"{{{re.search(r'`(my_net: {.*?})`', guide)[1]}}}")
    clone.params["networks"].append("my_net")
    clone.write_params()
    assert clone.study("tables@coco", "heatmaps@coco") == {
        "train@coco-my_net-0",
        "evaluate@coco-my_net",
        "tables@coco",
        "heatmaps@coco",
    }
    assert "my" in " ".join(clone.metrics("coco"))
    assert "my_net" in (clone.root / f"{REPORTS}/coco/tables/tables.ipynb").read_text()
    made = clone.python(
        "-c",
        "import torch; from hpelib.models import create_model; from hpelib.capture import capture; "
        "model = create_model('my_net', num_keypoints=5, width=8); "
        "print({k: tuple(v.shape) for k, v in capture(model, torch.zeros(1, 3, 32, 64)).items()})",
    )
    assert made.strip() == "{'heatmaps': (1, 5, 8, 16), 'my_features': (1, 8, 8, 16)}"


TOY = '''"""Toys: three keypoints, written by hand into a CSV file."""

import numpy as np
import pandas as pd

from hpelib.data.people import People
from hpelib.formats import PckFormat
from hpelib.skeletons import Skeleton

KEYPOINTS = ("top", "left_end", "right_end")
TOY3 = Skeleton("toy3", KEYPOINTS, ((1, 2),), bones=((0, 1), (0, 2)), groups={"Ends": (1, 2)}, upper_body=(0,))


class Toy(PckFormat):
    """Entries: `table`, a CSV file with the columns image, top_x, top_y and so on."""

    name = "toy"
    skeleton = TOY3
    required = ("table",)
    annotations = ("table",)
    columns = ("PCT",)
    main_metric = keypoint_metric = "PCT"
    threshold = 0.5
    threshold_label = "threshold / 10 px"

    def read(self, dataset, split):
        table = pd.read_csv(dataset.root / self.files(dataset, split)["table"])
        n = len(table)
        keypoints = table[[f"{name}_{axis}" for name in KEYPOINTS for axis in "xy"]].to_numpy().reshape(n, 3, 2)
        low, high = keypoints.min(1) - 4, keypoints.max(1) + 4
        return People(
            self.skeleton,
            image_paths=np.array([str(dataset.root / name) for name in table["image"]], object),
            image_ids=np.arange(n),
            ids=np.arange(n),
            keypoints=keypoints,
            visibility=np.full((n, 3), 2),
            boxes=np.concatenate([low, high - low], 1),
        )

    def lengths_px(self, people):
        return np.full(len(people), 10.0)

    def figures(self, dataset, people, keypoints, confidences, nms="hard"):
        hits = 100 * self.keypoint_scores(people, keypoints)
        return {"PCT": float(np.nanmean(hits)), "Ends": float(np.nanmean(hits[:, 1:]))}


FORMAT = Toy()
'''


def write_toys(root: Path) -> dict:
    """Pictures of noise with a CSV file for each split. Returns the set's entry in params.yaml."""
    random = np.random.default_rng(0)
    root.mkdir()
    for split, count in {"train": 16, "val": 4, "test": 4}.items():
        lines = ["image,top_x,top_y,left_end_x,left_end_y,right_end_x,right_end_y"]
        for number in range(count):
            cv2.imwrite(str(root / f"{split}{number}.png"), random.integers(0, 255, (48, 64, 3), np.uint8))
            points = random.uniform((10, 10), (54, 38), (3, 2)).round(2)
            lines.append(",".join([f"{split}{number}.png", *map(str, points.ravel())]))
        (root / f"{split}.csv").write_text("\n".join(lines) + "\n")
    splits = {split: {"table": f"{split}.csv"} for split in ("train", "val", "test")}
    return {"source": "toys", "format": "toy", "root": root.name, "splits": splits}


def test_a_format_is_added_with_its_file(clone):
    """And with its set in params.yaml. Nothing else trains or is evaluated again."""
    (clone.root / "hpelib/formats/toy.py").write_text(TOY, encoding="utf-8")
    clone.params["sets"]["toys"] = write_toys(clone.root / "toys")
    clone.profile["datasets"]["toys"] = {"set": "toys"}
    clone.params["extra"]["datasets"].append("toys")
    clone.params["all_datasets"].append("toys")
    clone.write_params()
    ran = clone.study("tables@toys", "data@toys", "tables@coco")
    assert ran - {"tables@coco"} == {
        "prepare@toys",
        "data@toys",
        "train_extra@toys-hrnet-0",
        "evaluate_extra@toys-hrnet",
        "tables@toys",
    }
    assert re.search(r"\| hrnet +\|", (clone.root / f"{REPORTS}/toys/tables/tables.ipynb").read_text())
    with (clone.root / f"{REPORTS}/toys/tables/results.csv").open(newline="") as file:
        assert "PCT" in {value for row in csv.DictReader(file) for value in row.values()}
