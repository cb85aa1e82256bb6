import ast
import json
import shutil
from pathlib import Path

import pytest

from hpelib.models import list_models
from hpelib.study.sources import freeze, strip_module, strip_notebook

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def frozen(tmp_path_factory) -> Path:
    """What freezing writes for the project as it is."""
    folder = tmp_path_factory.mktemp("frozen")
    freeze(folder, ROOT)
    return folder


@pytest.fixture
def project(tmp_path) -> Path:
    """A copy of the notebooks, modules and parameters."""
    for folder, pattern in (("hpelib", "*.py"), ("notebooks", "*.ipynb")):
        for path in (ROOT / folder).rglob(pattern):
            copy = tmp_path / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


def files_of(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in folder.rglob("*.*")}


def changes(project: Path, frozen: Path) -> set[str]:
    """What freezing the project writes differently from `frozen`."""
    freeze(project / "frozen", project)
    before, after = files_of(frozen), files_of(project / "frozen")
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def replace_in(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_everything_is_frozen(frozen):
    notebooks = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    networks = {path.stem for path in (ROOT / "hpelib/models").glob("[!_]*.py")} - {"table", "weights"}
    assert files_of(frozen).keys() == (
        {f"notebooks/{name}.ipynb" for name in notebooks}
        | {f"imports/{name}.txt" for name in (*notebooks, "render", "stress_data", "datasets", "report", "site")}
        | {f"imports/models/{name}.txt" for name in networks}
    )


def test_comments_and_docstrings_are_not_a_change(project, frozen):
    append(project / "hpelib/models/hourglass.py", "\n\n# a remark\n")
    replace_in(project / "hpelib/data/people.py", '"""The table of', '"""This is the table of')
    replace_in(project / "hpelib/codecs.py", "\n    return ", "\n    # a remark\n\n    return ")
    assert changes(project, frozen) == set()


@pytest.mark.parametrize("network", ["simple_baseline", "hourglass", "hrnet", "ditn"])
def test_code_of_a_network_is_a_change_of_it_and_of_those_that_build_on_it(project, frozen, network):
    append(project / f"hpelib/models/{network}.py", "\nEXTRA = 1\n")
    modules = {path.stem: path.read_text(encoding="utf-8") for path in (project / "hpelib/models").glob("[!_]*.py")}
    users = {network}
    for _ in modules:  # the modules that name one of these in an import, as often as there can be a next one
        users |= {name for name in modules if any(f"hpelib.models.{user} import" in modules[name] for user in users)}
    assert {name for name in changes(project, frozen) if "models/" in name} == {
        f"imports/models/{user}.txt" for user in users
    }


def test_a_module_of_all_is_a_change_of_all(project, frozen):
    append(project / "hpelib/data/people.py", "\nEXTRA = 1\n")
    found = changes(project, frozen)
    assert {"imports/train.txt", "imports/evaluate.txt", "imports/datasets.txt"} <= found
    assert not any("models/" in name for name in found)


def test_how_networks_are_made_is_a_change_of_all(project, frozen):
    append(project / "hpelib/models/__init__.py", "\nEXTRA = 1\n")
    assert {"imports/train.txt", "imports/evaluate.txt", "imports/sizes.txt"} <= changes(project, frozen)


def test_a_network_of_another_name_follows_the_file_of_its_model(project, frozen):
    replace_in(project / "params.yaml", "      hrnet: {model", "      slim: {model: hrnet_w32}\n      hrnet: {model")
    freeze(project / "frozen", project)
    added = files_of(project / "frozen").keys() - files_of(frozen).keys()
    assert added == {"imports/models/slim.txt"}
    found, expected = (
        (folder / "imports/models" / name).read_text()
        for folder, name in ((project / "frozen", "slim.txt"), (frozen, "hrnet.txt"))
    )
    assert found == expected


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "networks: [simple_baseline,",
            "networks: [simple_base,",
            "unknown network 'simple_base'; known here: simple_b",
        ),
        ("datasets: [coco, mpii]", "datasets: [coco, mpi]", "unknown dataset 'mpi'; known here: coco, mpii"),
        ("control: hrnet", "control: hrnets", "unknown network 'hrnets'"),
        (
            "hrnet: {model: hrnet_w32",
            "hrnet: {model: hrnet_w31",
            "'hrnet' is of model 'hrnet_w31', which is none",
        ),
        ("hrnet: {model", "hrnet: {optoins: {}, model", "network 'hrnet' has no optoins; it has inputs, augmentation"),
    ],
)
def test_wrong_names_in_the_parameters_stop_the_first_stage(project, old, new, message):
    replace_in(project / "params.yaml", old, new)
    with pytest.raises(ValueError, match=message):
        freeze(project / "frozen", project)


def test_the_table_of_networks_is_no_dependency_but_its_entries_are(project, frozen):
    append(project / "hpelib/models/table.py", "\nEXTRA = 1\n")
    assert changes(project, frozen) == set()
    entries = "".join(text for name, text in files_of(frozen).items() if "models/" in name)
    assert all(f"\n{name} " in entries for name in list_models())


def test_outputs_of_a_notebook_are_not_a_change_and_its_text_is(project, frozen):
    path = project / "notebooks/train.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    code = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    code["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["seen\n"]}]
    code["execution_count"] = 7
    code["metadata"] = {"tags": code["metadata"].get("tags", []), "collapsed": True}
    notebook["metadata"]["kernelspec"] = {"name": "mine", "display_name": "mine", "language": "python"}
    path.write_text(json.dumps(notebook))
    assert changes(project, frozen) == set()
    code["source"] = [*code["source"], "\nextra = 1"]
    path.write_text(json.dumps(notebook))
    assert changes(project, frozen) == {"notebooks/train.ipynb"}


def test_frozen_notebooks_keep_tags_and_sources(frozen):
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        before = json.loads(path.read_text(encoding="utf-8"))["cells"]
        after = json.loads((frozen / "notebooks" / path.name).read_text(encoding="utf-8"))["cells"]
        assert [cell["source"] for cell in before] == [cell["source"] for cell in after]
        assert [cell["metadata"].get("tags") for cell in before] == [cell["metadata"].get("tags") for cell in after]


MODULE = '''"""What it is for.

# not a comment
"""
import re  # a remark

COLOUR = "#ff0000"  # red
PATTERN = re.compile(r"#\\d+")
TEXT = """
# kept: this is data

second
"""


class Thing:
    """A thing."""

    def act(self):
        """Do it."""  # and this
        return f"{COLOUR} # {TEXT}"  # done

    # the end
'''


def test_stripping_keeps_the_code():
    stripped = strip_module(MODULE)
    namespaces = []
    for source in (MODULE, stripped):
        namespaces.append({})
        exec(source, namespaces[-1])
    for name in ("COLOUR", "PATTERN"):
        assert namespaces[0][name] == namespaces[1][name]
    assert "# kept: this is data" in stripped
    for gone in ("What it is for", "a remark", "red", "A thing", "Do it", "and this", "done", "the end"):
        assert gone not in stripped


@pytest.mark.parametrize("path", sorted((ROOT / "hpelib").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_stripping_every_module_leaves_its_syntax_tree_but_for_docstrings(path):
    """A body that was nothing but a docstring is left empty, which is fine for a digest; it is passed over here."""
    source = path.read_text(encoding="utf-8")
    kept = ast.parse(source)
    for node in ast.walk(kept):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            del node.body[0]
    if all(node.body for node in ast.walk(kept) if isinstance(node, ast.ClassDef | ast.FunctionDef)):
        assert ast.dump(ast.parse(strip_module(source))) == ast.dump(kept)


def test_stripping_is_idempotent():
    notebook = strip_notebook((ROOT / "notebooks/train.ipynb").read_text(encoding="utf-8"))
    assert strip_notebook(notebook) == notebook
    assert strip_module(strip_module(MODULE)) == strip_module(MODULE)
