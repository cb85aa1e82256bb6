"""The site: that it stands by itself, says what every picture shows, and leads nowhere that is not there."""

import base64
import json
import re
import subprocess
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup

from hpelib.study.site import Page, build, finish

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
README = """# What the study found

## coco

| network | AP |
|---|---|
| daunet | 3.1 |

![](coco/tables/cost.png)

[All tables](coco/tables/tables.ipynb), [sizes](sizes/sizes.md), [source](../hpelib/study/site.py),
[what is left open](../docs/ledger_daunet.md), [how to change it](../docs/experiments.md)
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A repository with one page of each kind, and names that could be mixed up."""
    root = tmp_path_factory.mktemp("repository")
    files = {
        "reports/README.md": README,
        "reports/papers/daunet/tables.md": "### Printed figures, in %\n\n[open](../../../docs/ledger_daunet.md)\n",
        "reports/sizes/sizes.md": "# Sizes\n\n[back](../README.md#coco)\n",
        "reports/coco/metrics.json": "{}",
        "docs/question.md": "# Five networks\n\n## The question\n\nWhich is better?\n",
        "docs/ledger_daunet.md": "# DAUNet: what is open\n\n| # | Question |\n|---|---|\n| 1 | Width |\n",
        "docs/experiments.md": "# Experiments\n\nChange one parameter.\n",
        "work/data/coco.json": json.dumps({"dataset": "coco", "annotations_sha256": "abc123"}),
        "data.dvc": "outs: []\n",
        "dvc.lock": "{}\n",
        "requirements.lock": "torch==2.11\n",
        "params.yaml": yaml.safe_dump(
            {
                "profile": "quick",
                "datasets": ["coco"],
                "networks": ["daunet"],
                "seeds": [0],
                "profiles": {"quick": {"threads": 1}, "paper": {"threads": 64}},
            }
        ),
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for picture in ("coco/tables/cost.png", "coco/looks/daunet/strips.png"):
        (root / "reports" / picture).parent.mkdir(parents=True, exist_ok=True)
        (root / "reports" / picture).write_bytes(PIXEL)
    for name in ("coco/tables/tables.ipynb", "sizes/sizes.ipynb", "coco/looks/daunet/paper_figures.ipynb"):
        _write_notebook(root / "reports" / name)
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@b.c"]
    for arguments in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "Start"]):
        subprocess.run([*git, *arguments], cwd=root, check=True)
    return root


def _write_notebook(path: Path) -> None:
    picture = nbformat.v4.new_output("display_data", {"image/png": base64.b64encode(PIXEL).decode()})
    table = nbformat.v4.new_output("display_data", {"text/html": "<table><tr><td>1</td></tr></table>"})
    cells = [
        nbformat.v4.new_markdown_cell("# Tables\n\n**Question.** Which is better?"),
        nbformat.v4.new_markdown_cell("## Against cost\n\nAccuracy against arithmetic. Bars are intervals."),
        nbformat.v4.new_code_cell("draw()", outputs=[picture, table]),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)


@pytest.fixture(scope="module")
def site(root, tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("site")
    (target / "left_from_before.html").write_text("old")
    build(root, target)
    return target


def soups(site: Path) -> dict[Path, BeautifulSoup]:
    return {path: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser") for path in site.rglob("*.html")}


def broken(site: Path) -> list[str]:
    """Links and pictures that lead nowhere, anchors included."""
    pages, found = soups(site), []
    for path, soup in pages.items():
        names = [link["href"] for link in soup.find_all("a", href=True)] + [img["src"] for img in soup.find_all("img")]
        for name in names:
            if re.match(r"(https?|mailto|data):", name):
                continue
            file, _, anchor = unquote(name).partition("#")
            target = (path.parent / file).resolve() if file else path
            if not target.is_file() or (anchor and not pages[target].find(id=anchor)):
                found.append(f"{path.name}: {name}")
    return found


def loaded(soup: BeautifulSoup) -> list[str]:
    """What a browser would fetch from elsewhere when it opens the page."""
    sources = [tag["src"] for tag in soup.find_all(src=True)]
    sources += [tag["href"] for tag in soup.find_all("link", href=True)]
    sources += re.findall(
        r"(?:url\(|@import\s)['\"]?([^'\")\s]+)", " ".join(style.text for style in soup.find_all("style"))
    )
    return [source for source in sources if re.match(r"(https?:)?//", source)]


def test_all_links_and_pictures_are_there(site):
    assert broken(site) == []
    assert not (site / "left_from_before.html").exists()


def test_nothing_is_fetched_from_elsewhere(site):
    for path, soup in soups(site).items():
        assert loaded(soup) == [], path
        assert not soup.find("script"), path


def test_pictures_have_words_and_tables_can_be_reached(site):
    for path, soup in soups(site).items():
        assert all(picture["alt"].strip() for picture in soup.find_all("img")), path
        assert all(table.parent["tabindex"] == "0" for table in soup.find_all("table")), path
        assert soup.html["lang"] == "en"
        assert soup.find("meta", attrs={"name": "viewport"})
        assert len(soup.find_all("h1")) == 1, path
        assert soup.title.text.strip(), path
    words = soups(site)[site / "coco/tables/tables.notebook.html"].find("img")["alt"]
    assert words == "Against cost. Accuracy against arithmetic"


def test_every_page_is_reached_from_the_index(site):
    pages = soups(site)
    index = site / "index.html"
    reached = {(index.parent / link["href"].split("#")[0]).resolve() for link in pages[index].find_all("a", href=True)}
    assert set(pages) - reached <= {index}
    listed = [link.get_text() for link in pages[index].main.find_all("a") if "notebook" in link["href"]]
    assert "Tables (tables)" in listed, "pages of one title are told apart"
    assert "Tables (daunet)" in listed


def test_pages_of_one_name_stay_apart(site):
    assert "back" in (site / "sizes/sizes.html").read_text()
    assert "Against cost" in (site / "sizes/sizes.notebook.html").read_text()


def test_a_link_out_of_the_site_becomes_text(site):
    soup = soups(site)[site / "index.html"]
    assert "source" in soup.get_text()
    assert not [link for link in soup.find_all("a") if link.text == "source"]


def test_reports_lead_to_ledgers_and_guides(site):
    pages = soups(site)
    for page, target in {
        "index.html": "networks/daunet.html",
        "papers/daunet/tables.html": "../../networks/daunet.html",
    }.items():
        assert pages[site / page].main.find("a", href=target, string=re.compile("open")), page
    assert pages[site / "index.html"].main.find("a", href="guides/experiments.html", string="how to change it")


def test_a_papers_page_shows_its_ledger_and_its_pictures(site):
    soup = soups(site)[site / "networks/daunet.html"]
    assert soup.h1.text.strip() == "DAUNet"
    headings = [heading.get_text().strip() for heading in soup.find_all("h2")]
    assert headings == ["Results and figures", "What is open"]
    assert [picture["src"] for picture in soup.find_all("img")] == ["../coco/looks/daunet/strips.png"]
    assert soup.find("a", href="../coco/looks/daunet/paper_figures.notebook.html")


def test_cells_of_twenty_characters_stay_on_one_line():
    cells = "".join(f"<td>{'9' * length}</td>" for length in (1, 20, 21))
    page = Page(PurePosixPath("a.html"), "Title", f"<table><tr>{cells}</tr></table>")
    found = BeautifulSoup(finish(page, [], {}, []), "html.parser").find_all("td")
    assert ["short" in cell.get("class", []) for cell in found] == [True, True, False]


def test_provenance_names_commit_data_parameters_and_environment(site, root):
    text = soups(site)[site / "provenance.html"].get_text()
    commit = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=root, text=True).strip()
    assert commit in text
    assert "abc123" in text
    assert "threads: 1" in text
    assert "threads: 64" not in text
    assert re.search(r"torch\s+\d+\.\d+", text)


def test_the_checks_see_what_they_are_for(tmp_path):
    (tmp_path / "index.html").write_text('<a href="gone.html">x</a><a href="#gone">y</a><img src="gone.png">')
    assert len(broken(tmp_path)) == 3
    page = '<link rel="stylesheet" href="https://a.b/c.css"><style>@import "//a.b/d.css";</style><img src="http://a.b/e.png">'
    assert len(loaded(BeautifulSoup(page, "html.parser"))) == 3


def test_without_reports_there_is_no_site(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"README\.md not found; run: make study"):
        build(tmp_path, tmp_path / "site")
