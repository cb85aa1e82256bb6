"""The files that set up the environment agree with each other, and say plainly where they cannot work."""

import ast
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "tools/environment.py"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PINS = {canonicalize_name(name): Version(version) for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", LOCK, re.M)}
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROFILES = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["profiles"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def test_the_lock_pins_every_dependency_as_asked():
    optional = [name for names in PROJECT["optional-dependencies"].values() for name in names]
    for wanted in map(Requirement, [*PROJECT["dependencies"], *optional]):
        assert PINS[canonicalize_name(wanted.name)] in wanted.specifier, wanted.name


def test_everything_in_the_lock_is_pinned_with_hashes_and_comes_from_the_registry():
    entries = re.split(r"^(?=[A-Za-z0-9])", LOCK, flags=re.M)[1:]
    assert len(entries) >= len(PINS) > len(PROJECT["dependencies"])
    for entry in entries:
        assert re.match(r"[\w.-]+==[^\s;]+", entry), entry.splitlines()[0]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry.splitlines()[0]
    assert not re.search(r"://|^\s*-[a-z]|^\s*--(?!hash)| @ |file:", LOCK, re.M)


def test_conda_gives_a_fitting_python_and_the_lock_the_rest():
    described = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python, pip, installed = described["dependencies"]
    assert Version(python.removeprefix("python=")) in SpecifierSet(PROJECT["requires-python"])
    assert pip == "pip"
    assert installed == {"pip": ["--require-hashes", "-r requirements.lock"]}
    assert described["name"] == PROJECT["name"]


def test_the_oldest_python_is_the_same_everywhere():
    oldest = Version(".".join(map(str, runpy.run_path(str(SCRIPT))["OLDEST_PYTHON"])))
    assert SpecifierSet(PROJECT["requires-python"]) == SpecifierSet(f">={oldest}")
    assert f"--python-version {oldest}" in MAKEFILE


def test_the_script_can_be_read_by_an_old_python():
    """Its message reaches somebody on Python 3.7 only if that can parse it and import what it needs."""
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"), feature_version=(3, 7))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported <= set(sys.stdlib_module_names)


@pytest.fixture
def set_up(tmp_path, monkeypatch) -> Callable[[], list[list[str]]]:
    """`set_up()` runs tools/environment.py in a folder of its own. It returns the commands, which only seem to run."""
    (tmp_path / "tools").mkdir()
    for path in (SCRIPT, ROOT / "requirements.lock", ROOT / "pyproject.toml"):
        shutil.copy(path, tmp_path / path.relative_to(ROOT))
    commands = []

    def seem_to_run(command, **options) -> SimpleNamespace:
        command = [str(word) for word in command]
        commands.append(command)
        if command[1:3] == ["-m", "venv"]:
            (Path(command[3]) / "bin").mkdir(parents=True)
            (Path(command[3]) / "bin/python").symlink_to(sys.executable)
        if "fail" in options.get("env", {}):
            raise subprocess.CalledProcessError(1, command)
        return SimpleNamespace(returncode=0)

    def run() -> list[list[str]]:
        commands.clear()
        runpy.run_path(str(tmp_path / "tools/environment.py"), run_name="__main__")
        return list(commands)

    monkeypatch.setattr(subprocess, "run", seem_to_run)
    return run


def test_it_is_made_once(set_up):
    made = set_up()
    assert [command[1:3] for command in made][:2] == [["-m", "venv"], ["-m", "pip"]]
    assert all("--require-hashes" in command for command in made if "-r" in command)
    assert set_up() == []


def test_the_installer_is_pinned_by_hash_too(set_up, tmp_path):
    (first, *_) = [command for command in set_up() if "-r" in command]
    text = Path(first[first.index("-r") + 1]).read_text()
    assert re.match(rf"uv=={PINS['uv']} ", text)
    assert text.count("--hash=sha256:") > 1
    assert len(re.findall(r"^\S+==", text, re.M)) == 1


@pytest.mark.parametrize("change", ["lock", "pyproject", "half made", "no interpreter"])
def test_one_that_is_for_something_else_or_broken_is_made_anew(set_up, tmp_path, monkeypatch, change):
    if change == "half made":
        monkeypatch.setenv("fail", "")
        with pytest.raises(SystemExit, match="setting up stopped"):
            set_up()
        monkeypatch.delenv("fail")
    else:
        set_up()
    if change == "no interpreter":
        (tmp_path / ".venv/bin/python").unlink()
        (tmp_path / ".venv/bin/python").symlink_to(tmp_path / "uninstalled")
    if change in ("lock", "pyproject"):
        name = {"lock": "requirements.lock", "pyproject": "pyproject.toml"}[change]
        with (tmp_path / name).open("a") as file:
            file.write("\n# changed")
    assert set_up()
    assert set_up() == []


def test_a_moved_folder_needs_an_environment_of_its_own(set_up, tmp_path):
    set_up()
    stamp = (tmp_path / ".venv/installed.sha256").read_text()
    moved = tmp_path.parent / f"{tmp_path.name}_moved"
    tmp_path.rename(moved)
    namespace = runpy.run_path(str(moved / "tools/environment.py"), run_name="__main__")
    assert namespace["STAMP"].read_text() != stamp


def test_an_old_python_is_told_what_to_do(set_up, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 1, "final", 0))
    with pytest.raises(SystemExit, match=r"3\.11 or newer is needed, this is 3\..*PYTHON=python3"):
        set_up()


def test_a_full_disk_is_named_with_what_is_needed(set_up, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=int(1.5 * 2**30)))
    with pytest.raises(SystemExit, match=r"needs \d+ GiB, and 1\.5 GiB are free at "):
        set_up()


def test_a_submission_is_tested_by_the_readmes_command():
    commands = (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
    assert "make test" in commands
    assert "set -euo pipefail" in commands


def test_what_the_readme_names_is_there():
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE, re.M))
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", README, re.M)) <= targets
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8")
    found = {path for path in re.findall(r"`([\w./]+)`", README) if re.search(r"/|\.(yaml|lock|py)$", path)}
    assert len(found) > 10
    for path in {path for path in found if "my_net" not in path}:  # which is the reader's own
        top, *rest = path.split("/")
        if top == "reports":
            assert rest[0] in ("", *PROFILES), path
        elif top in ("datasets", "work", "logs"):
            assert re.search(rf"^/{top}/?$", ignored, re.M), path
        else:  # rows about hpelib name its folders by themselves
            assert any((place / path).exists() for place in (ROOT, ROOT / "hpelib", ROOT / "hpelib/study")), path
    for link in re.findall(r"\]\(([^)#:]+)[^)]*\)", README):
        assert (ROOT / link).exists(), link


def test_profiles_of_the_readme_exist():
    table = README.split("\n## Profiles\n")[1].split("\n## ")[0]
    named = set(re.findall(r"`([\w-]+)`", " ".join(re.findall(r"^\|(.*?)\|", table, re.M))))
    assert named == PROFILES.keys()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory, copy_working_tree) -> Path:
    """What `pip install .` puts into an environment, unpacked."""
    tree, folder = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("installed")
    copy_working_tree(tree)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", "made", "."]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = (tree / "made").glob("*.whl")
    zipfile.ZipFile(path).extractall(folder)
    return folder


def test_every_file_of_the_library_is_installed(wheel):
    listed = subprocess.check_output(
        ["git", "ls-files", "-co", "--exclude-standard", "hpelib"], cwd=ROOT, text=True
    ).splitlines()
    wanted = {name for name in listed if (ROOT / name).is_file()}
    assert [name for name in wanted if not name.endswith(".py")], "templates are what packaging forgets"
    assert wanted <= {path.relative_to(wheel).as_posix() for path in wheel.rglob("*")}
    tops = {path.name for path in wheel.iterdir()}
    assert {name for name in tops if not name.endswith(".dist-info")} == {"hpelib"}


def test_the_installed_package_works_away_from_the_repository(wheel, tmp_path):
    code = """
import hpelib.models, torch
from importlib.metadata import entry_points
from papermill.engines import papermill_engines
print(hpelib.__file__)
model = hpelib.models.create_model("hourglass", num_keypoints=5, stacks=1).eval()
print(tuple(model(torch.zeros(1, 3, 64, 64)).shape))
(engine,) = [found for found in entry_points(group="papermill.engine") if found.name == "hpelib"]
print(engine.load().__module__, papermill_engines.get_engine("hpelib").__module__)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(wheel)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    place, shape, engines = done.stdout.splitlines()
    assert Path(place).is_relative_to(wheel)
    assert shape == "(1, 5, 16, 16)"
    assert engines == "hpelib.study.engine hpelib.study.engine"
