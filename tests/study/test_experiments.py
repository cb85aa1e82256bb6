"""The guide to experiments, its commands given as they stand there.

The stages are the study's, but do nothing except write what they should: a figure that depends on the parameters.
"""

import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

ROOT = Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs/experiments.md").read_text(encoding="utf-8")
REAL = '"hpelib.study.plan", "hpelib.study.tools.show_run"'  # modules that the stand-in leaves to Python
STAGE = '''#!{python}
"""Stands for Python, and leaves what the current stage should leave."""
import json, os, pathlib, sys, zlib
import yaml

if not sys.argv[2].startswith(("hpelib.", "papermill")) or sys.argv[2] in ({real}):
    os.execv("{python}", ["{python}", *sys.argv[1:]])
options = yaml.safe_load(pathlib.Path("params.yaml").read_text())["profiles"]["quick"]["networks"]
figures = {{name[:2]: zlib.crc32(json.dumps(entry).encode()) % 10000 / 100 for name, entry in options.items()}}
for name in json.loads(pathlib.Path({outs!r}).read_text())[os.environ["DVC_STAGE"]]:
    path = pathlib.Path(name)
    if path.name == "metrics.json":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({{path.parent.name: figures}}))
    elif path.suffix:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(figures))
    else:
        path.mkdir(parents=True, exist_ok=True)
        axes = {{"learning": "epoch,score", "threshold": "threshold,correct"}}.get(path.name, "joint,value")
        (path / "hourglass.csv").write_text(f"{{axes}}\\n1,{{figures['ho']}}\\n")
'''


class Workshop:
    """A small copy of the study in which the guide's commands can be given."""

    def __init__(self, root: Path, outs: Path, programs: Path):
        self.root, self.outs = root, outs
        names = {f"GIT_{role}_{what}": "a@b.c" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
        self.environment = os.environ | names | {"PATH": path, "COLUMNS": "120", "PYTHONPATH": str(root)}

    def sh(self, command: str) -> str:
        shell = ["bash", "-euo", "pipefail", "-c", command]
        finished = subprocess.run(shell, cwd=self.root, env=self.environment, capture_output=True, text=True)
        assert finished.returncode == 0, f"{command}\n{finished.stdout[-2000:]}\n{finished.stderr[-2000:]}"
        return finished.stdout

    def learn_stages(self) -> None:
        """Tell the stand-in what each stage leaves."""
        with Repo(str(self.root)) as repo:
            stages = [stage for stage in repo.index.stages if getattr(stage, "name", None)]
            self.outs.write_text(json.dumps({stage.name: [o.def_path for o in stage.outs] for stage in stages}))

    def wait_for_the_queue(self, names: set[str]) -> None:
        end = time.monotonic() + 300
        while time.monotonic() < end:
            rows = [line.split() for line in self.sh("dvc queue status").splitlines()]
            if names <= {row[1] for row in rows if "Success" in row}:
                return
            assert not [row for row in rows if "Failed" in row], self.sh("dvc queue status")
            time.sleep(0.5)
        raise AssertionError(f"the queue never ended: {rows}")


@pytest.fixture(scope="module")
def workshop(tmp_path_factory, copy_working_tree) -> Workshop:
    """A finished study of two networks whose results are committed."""
    root, outs = tmp_path_factory.mktemp("workshop"), tmp_path_factory.mktemp("outs") / "outs.json"
    programs = tmp_path_factory.mktemp("programs")
    copy_working_tree(root)
    params = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    params |= {
        "datasets": ["coco", "mpii"],
        "networks": ["hrnet", "hourglass"],
        "seeds": [0],
        "error_datasets": ["coco"],
    }
    params |= {"extra": {"datasets": ["lsp"], "networks": ["hourglass"]}, "all_datasets": ["coco", "mpii", "lsp"]}
    params |= {"ablations": {"sadi_net": params["ablations"]["sadi_net"]}}
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    (programs / "python").write_text(STAGE.format(python=sys.executable, outs=str(outs), real=REAL))
    (programs / "python").chmod(stat.S_IRWXU)
    (programs / "less").symlink_to(shutil.which("cat"))
    workshop = Workshop(root, outs, programs)
    workshop.sh("git init --quiet && git add . && git commit --quiet -m Start")
    workshop.learn_stages()
    workshop.sh("dvc repro --quiet && git add . && git commit --quiet -m 'A finished study'")
    return workshop


def commands(heading: str) -> list[str]:
    """The shell commands below a heading of the guide, remarks left out."""
    section = GUIDE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = "\n".join(re.findall(r"```sh\n(.*?)```", section, re.S)).splitlines()
    return [re.sub(r"\s+# .*", "", line) for line in lines]


def test_the_guide_leads_from_one_change_to_the_best_of_several(workshop):
    shown = {}
    for heading in ("Change one parameter", "Compare", "Queue several", "Keep the best, remove the rest"):
        for command in commands(heading):
            if command.startswith("dvc queue logs"):
                workshop.wait_for_the_queue({"narrow", "two-blocks"})
            shown[command] = workshop.sh(command)
    show = next(text for command, text in shown.items() if command.startswith("dvc exp show --only-changed"))
    assert "two-stacks" in show
    assert max(map(len, show.splitlines())) <= 120
    figures = shown["dvc metrics diff HEAD two-stacks"]
    assert re.search(r"coco\.ho\s", figures)
    assert "coco.hr" not in figures
    assert "stacks" in shown["dvc exp diff HEAD two-stacks"]
    assert "stacks" in shown["dvc params diff"]
    assert (workshop.root / "dvc_plots/index.html").is_file()
    params = yaml.safe_load((workshop.root / "params.yaml").read_text(encoding="utf-8"))
    options = params["profiles"]["quick"]["networks"]["hourglass"]["options"]
    assert options["blocks"] == [2, 2, 2, 2]
    assert "two-stacks" not in workshop.sh("dvc exp list --all-commits")


def test_a_part_of_the_study_runs_by_itself(workshop):
    restore = next(command for command in commands("Queue several") if command.startswith("git restore"))
    parts = commands("Run a part of the study")
    assert len(parts) == 3
    for command in parts:
        workshop.sh(command.replace("[ditn]", "[hourglass]"))  # which the workshop has
        workshop.sh(restore)
        assert not workshop.sh("git status --porcelain --untracked-files=no"), "nothing is left for the next experiment"
    for name in ("coco-only", "ditn-only", "no-ablations"):
        assert name in workshop.sh("dvc exp list")


def test_two_settings_of_one_network_stand_side_by_side(workshop):
    section = GUIDE.split("\n## Two settings of one network side by side\n")[1]
    path = workshop.root / "params.yaml"
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    params["profiles"]["quick"]["networks"] |= yaml.safe_load(re.search(r"```yaml\n(.*?)```", section, re.S)[1])
    params["networks"].append("hrnet_slim")
    path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    workshop.learn_stages()
    trained = re.findall(r"Running stage '(train\S*)'", workshop.sh("dvc exp run --name slim"))
    assert trained
    assert all("hrnet_slim" in stage for stage in trained)


def test_a_network_of_ones_own_stands_in_every_table(workshop):
    section = GUIDE.split("\n## Add a network of your own\n")[1]
    for kind, place in (("python", "models/my_net.py"), ("yaml", "records/my_net.yaml")):
        text = re.search(rf"```{kind}\n(.*?)```", section, re.S)[1]
        (workshop.root / "hpelib" / place).write_text(text, encoding="utf-8")
    entry = re.search(r"`(my_net: [^`]*)`", section)[1]
    path = workshop.root / "params.yaml"
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    params["profiles"]["quick"]["networks"] |= yaml.safe_load(f"{{{entry}}}")
    params["networks"].append("my_net")
    path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    workshop.learn_stages()
    made = shlex.quote(
        "import torch; from hpelib.models import create_model; from hpelib.capture import capture; "
        "model = create_model('my_net', num_keypoints=5, width=8); "
        "print({k: tuple(v.shape) for k, v in capture(model, torch.zeros(1, 3, 32, 64)).items()})"
    )
    shapes = workshop.sh(f"{sys.executable} -c {made}")
    assert shapes.strip() == "{'heatmaps': (1, 5, 8, 16), 'my_features': (1, 8, 8, 16)}"
    for command in commands("Add a network of your own"):
        workshop.sh(command)
    assert "coco.my" in workshop.sh("dvc metrics diff")
