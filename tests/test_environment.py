"""The files that set up the environment agree with each other, and say plainly where they cannot work."""

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PINS = {canonicalize_name(name): Version(version) for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", LOCK, re.M)}
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z]+):", MAKEFILE, re.M))
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
DEVELOPMENT = [name for names in PROJECT["optional-dependencies"].values() for name in names]


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """tools/environment.py, working on a root of its own."""
    spec = importlib.util.spec_from_file_location("environment", ROOT / "tools/environment.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shutil.copy(ROOT / "requirements.lock", tmp_path)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "LOCK", tmp_path / "requirements.lock")
    monkeypatch.setattr(module, "STAMP", tmp_path / ".venv/installed.sha256")
    return module


@pytest.mark.parametrize("requirement", [*PROJECT["dependencies"], *DEVELOPMENT])
def test_the_lock_pins_every_dependency_as_asked(requirement):
    wanted = Requirement(requirement)
    assert PINS[canonicalize_name(wanted.name)] in wanted.specifier


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


def test_the_oldest_python_is_the_same_everywhere(environment):
    oldest = Version(".".join(map(str, environment.OLDEST_PYTHON)))
    assert SpecifierSet(PROJECT["requires-python"]) == SpecifierSet(f">={oldest}")
    assert f"--python-version {oldest}" in MAKEFILE


def test_an_old_python_is_told_what_to_do(environment, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 1, "final", 0))
    with pytest.raises(SystemExit, match=r"3\.11 or newer is needed, and .*is 3\.9\. Name another .*PYTHON=python3"):
        environment.check_python()


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 12, 4), (3, 14, 0)])
def test_a_new_python_is_welcome(environment, monkeypatch, version):
    monkeypatch.setattr(sys, "version_info", version)
    environment.check_python()


def test_the_script_can_be_read_by_an_old_python():
    """Its message reaches somebody on Python 3.6 only if that can parse it and import what it needs."""
    source = (ROOT / "tools/environment.py").read_text(encoding="utf-8")
    compile(source, "environment.py", "exec")
    modules = re.findall(r"^(?:import|from) (\w+)", source, re.M)
    assert set(modules) <= set(sys.stdlib_module_names)
    assert not re.search(r":=|\bmatch \w+:|-> |def \w+\(.*: \w+\)", source), "too new for some Python 3"


def test_a_full_disk_is_named_with_what_is_needed(environment, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=int(1.5 * 2**30)))
    with pytest.raises(SystemExit, match=r"needs about \d+ GiB, and only 1\.5 GiB are free at .*Free some space"):
        environment.check_disk()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2**40))
    environment.check_disk()


def make_venv(environment, interpreter: str) -> None:
    python = environment.venv_python()
    python.parent.mkdir(parents=True)
    python.symlink_to(interpreter)
    environment.STAMP.write_text(environment.wanted_stamp())


def test_a_venv_that_starts_is_ready_and_is_not_made_again(environment, monkeypatch):
    make_venv(environment, sys.executable)
    seen = []
    finished = SimpleNamespace(returncode=0)
    monkeypatch.setattr(subprocess, "run", lambda command, **options: seen.append(command) or finished)
    assert environment.is_ready()
    assert seen[0][0] == str(environment.venv_python())
    finished.returncode = 1
    assert not environment.is_ready(), "its Python starts, but not with the package"


def test_a_venv_without_its_interpreter_is_not_ready(environment, tmp_path):
    make_venv(environment, str(tmp_path / "python that was uninstalled"))
    assert not environment.is_ready()


@pytest.mark.parametrize("change", ["lock", "half made", "other place"])
def test_a_venv_for_something_else_is_not_ready(environment, monkeypatch, tmp_path, change):
    make_venv(environment, sys.executable)
    monkeypatch.setattr(subprocess, "run", lambda *command, **options: SimpleNamespace(returncode=0))
    if change == "half made":
        environment.STAMP.unlink()
    elif change == "other place":
        monkeypatch.setattr(environment, "ROOT", tmp_path)
        environment.STAMP.write_text(environment.wanted_stamp())
        monkeypatch.setattr(environment, "ROOT", tmp_path / "moved")
    else:
        environment.LOCK.write_text(LOCK + "\n# changed")
    assert not environment.is_ready()


def test_a_failing_step_is_named(environment):
    with pytest.raises(SystemExit, match=r"stopped at: .*--no-such-option(.|\n)*run the command again"):
        environment.run(sys.executable, "--no-such-option")


def test_something_else_in_the_place_of_the_venv_is_left_alone(environment):
    environment.VENV.write_text("mine")
    with pytest.raises(SystemExit, match=r"\.venv is not a folder\. Remove it"):
        environment.create()
    assert environment.VENV.read_text() == "mine"


def test_the_installer_is_pinned_by_hash_too(environment):
    environment.VENV.mkdir()
    text = environment.bootstrap_lock().read_text()
    assert re.match(rf"uv=={PINS['uv']} ", text)
    assert text.count("--hash=sha256:") > 1
    assert len(re.findall(r"^\S+==", text, re.M)) == 1


def test_a_submission_is_tested_by_the_readmes_command():
    commands = (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
    assert "make test" in commands
    assert "set -euo pipefail" in commands


@pytest.mark.parametrize("target", sorted(set(re.findall(r"(?:^|`)make ([a-z]+)", README, re.M))))
def test_make_targets_of_the_readme_exist(target):
    assert target in TARGETS


@pytest.mark.parametrize(
    "path", sorted({path for path in re.findall(r"`([\w./]+)`", README) if re.search(r"/|\.(yaml|lock|py)$", path)})
)
def test_files_of_the_readme_exist(path):
    if path.split("/")[0] in ("datasets", "work"):
        assert f"/{path.split('/')[0]}/" in (ROOT / ".gitignore").read_text(encoding="utf-8")
        return
    places = [ROOT, ROOT / "hpelib"]  # the row about hpelib/ names its folders by themselves
    assert any((place / path).exists() for place in places) or path == "hpelib/models/my_net.py"


@pytest.mark.parametrize("assignment", sorted(set(re.findall(r"-S '?([^'\s`]+)", README))))
def test_parameters_of_the_readme_exist(assignment):
    name, value = assignment.split("=", 1)
    entry = PARAMS
    for key in name.split("."):
        assert key in entry, f"{name}: params.yaml has no {key}"
        entry = entry[key]
    if name == "profile":
        assert value in PARAMS["profiles"]
    if name == "datasets":
        assert set(yaml.safe_load(value)) <= PARAMS["profiles"][PARAMS["profile"]]["datasets"].keys()


@pytest.mark.parametrize("profile", re.findall(r"^\| `(\w+)`.*\|.*\|.*\|", README, re.M))
def test_profiles_of_the_readme_exist(profile):
    assert profile in PARAMS["profiles"]
