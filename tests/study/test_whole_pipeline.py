"""The whole study at its smallest, in a clone of its own: from rendering people to the index of reports/."""

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

DATASETS, PERSONS = ["coco", "mpii"], {"train": 40, "val": 12, "test": 12}
ROWS = ("baseline", "full")  # of DE-HRNet's ablations, which stand for all papers'

ROOT = Path(__file__).resolve().parents[2]


class Clone:
    """A copy of the working tree as a repository of its own with tiny parameters."""

    def __init__(self, root: Path):
        self.root = root
        self.params = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
        self.params |= {"datasets": DATASETS, "networks": ["hrnet", "de_hrnet"], "seeds": [0], "ablation_seeds": [0]}
        self.params |= {"extra": {"datasets": ["lsp"], "networks": ["hrnet"]}, "control": "hrnet"}
        ablation = self.params["ablations"]["de_hrnet"]
        self.params["ablations"] = {"de_hrnet": ablation | {"rows": {row: ablation["rows"][row] for row in ROWS}}}
        profile = self.params["profiles"][self.params["profile"]]
        profile["mannequins"]["persons"] = PERSONS
        profile["inputs"]["batch_size"] = 8
        profile["recipe"]["epochs"] = 1
        profile["stress"]["persons"] = 5
        profile["paper_recipes"]["de_hrnet"] = {}
        (root / "params.yaml").write_text(yaml.safe_dump(self.params, sort_keys=False))
        sizes = root / "data/paper_sizes.csv"
        sizes.write_text("".join(sizes.read_text().splitlines(keepends=True)[:3]))
        known = ["hrnet", "de_hrnet", *(f"de_hrnet:{row}" for row in ROWS)]
        self.keep("data/claims.csv", lambda row: {row["better"], row["worse"]} <= set(known))
        self.keep("data/paper_results.csv", lambda row: row["paper"] == "de_hrnet" and row["entry"] in known)
        self.git("init", "--quiet")
        self.git("add", ".")
        self.git("-c", "user.name=A", "-c", "user.email=a@b.c", "commit", "--quiet", "--message", "Start")

    def keep(self, name: str, wanted: Callable[[dict], bool]) -> None:
        """Leave only some rows of a table."""
        with (self.root / name).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        with (self.root / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(filter(wanted, rows))

    def git(self, *arguments: str) -> str:
        return self.run("git", *arguments)

    def python(self, *arguments: str) -> str:
        return self.run(sys.executable, *arguments)

    def run(self, *command: str) -> str:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = os.environ | {"PATH": path, "PYTHONPATH": str(self.root)}
        finished = subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True)
        assert finished.returncode == 0, finished.stdout[-4000:] + finished.stderr[-4000:]
        return finished.stdout

    def contents(self, folder: str) -> dict[str, bytes]:
        paths = [path for path in (self.root / folder).rglob("*") if path.is_file()]
        return {path.relative_to(self.root).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def clone(tmp_path_factory, copy_working_tree) -> Clone:
    """A clone whose study was run once."""
    root = tmp_path_factory.mktemp("clone")
    copy_working_tree(root)
    clone = Clone(root)
    assert "Done: reports/README.md" in clone.python("-m", "hpelib.study.run", "2")
    return clone


def test_every_network_stands_in_every_report(clone):
    page = (clone.root / "reports/README.md").read_text(encoding="utf-8")
    for dataset in DATASETS:
        section = page.split(f"\n## {dataset}\n")[1].split("\n## ")[0]
        metrics = json.loads((clone.root / f"reports/{dataset}/metrics.json").read_text())
        assert len(metrics[dataset]) == len(clone.params["networks"])
        for network in clone.params["networks"]:
            assert re.search(rf"^\| {network} ", section, re.M)
        assert "not run" not in section
        persons = int(re.search(r"test split, (\d+) persons", section)[1])
        assert persons >= PERSONS["test"]


def test_links_of_the_index_lead_somewhere(clone):
    page = (clone.root / "reports/README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", page)
    assert len(links) >= 4 * len(DATASETS)
    for link in links:
        root = ROOT if link == "benchmarks.md" else clone.root  # `make bench` makes that page, no stage does
        assert (root / "reports" / link).is_file(), link


def test_reports_say_nothing_of_this_machine(clone):
    for name, content in clone.contents("reports").items():
        if not name.endswith(".png"):
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
    assert "up to date" in clone.python("-m", "hpelib.study.run", "2")
    assert "up to date: tables@coco" in clone.python("-m", "hpelib.study.run", "2", "tables@coco")
    assert {name: (clone.root / name).stat().st_mtime_ns for name in clone.contents("reports")} == before
    assert (clone.root / "dvc.lock").read_bytes() == lock


def test_reports_are_made_again_to_the_byte(clone):
    before = clone.contents("reports")
    clone.python("-m", "dvc", "repro", "--quiet", "--force", "--single-item", "tables@coco")
    assert clone.contents("reports") == before


def test_a_comment_retrains_nothing(clone):
    path = clone.root / "hpelib/study/train.py"
    path.write_text(path.read_text(encoding="utf-8") + "\n# a remark\n", encoding="utf-8")
    lock = yaml.safe_load((clone.root / "dvc.lock").read_text())["stages"]
    clone.python("-m", "dvc", "repro", "--quiet", "sources")
    assert json.loads(clone.python("-m", "dvc", "status", "--json")) == {}
    after = yaml.safe_load((clone.root / "dvc.lock").read_text())["stages"]
    assert {name for name in after if after[name] != lock[name]} == {"sources"}
