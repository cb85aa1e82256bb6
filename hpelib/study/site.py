"""The report as a web site in a folder: every page under reports/, the ledgers, and what it all was made from."""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath

import nbformat
import yaml
from bs4 import BeautifulSoup, Tag
from jinja2 import Environment
from nbconvert import HTMLExporter
from nbconvert.filters import markdown2html
from pygments.formatters import HtmlFormatter

from hpelib.study.config import load_params, profile_params
from hpelib.study.stories import STORIES

TEMPLATE = Path(__file__).with_name("site.html")
ASSETS = (".png", ".csv", ".json")
SHORT_CELL = 20  # characters that stay on one line, as a figure with its interval
PACKAGES = ("torch", "torchvision", "timm", "numpy", "pandas", "opencv-python-headless", "pycocotools", "dvc")
NOTEBOOK = """{% extends "classic/base.html.j2" %}
{% block input_group %}<details class="code"><summary>Code</summary>{{ super() }}</details>{% endblock %}"""


@dataclass
class Page:
    """One page of the site; its path is relative to the site's root."""

    path: PurePosixPath
    title: str
    body: str  # HTML whose links are relative to the page
    section: str = ""  # the heading that the index lists it under
    sources: tuple[str, ...] = ()  # what the reports call it in their links, relative to reports/
    network: str = ""  # of a paper's page


def build(root: Path, target: Path) -> list[Page]:
    """Write the site of the repository at `root` to `target`, which is emptied, and return its pages.

    Raises:
        FileNotFoundError: there is no reports/README.md, without which there is nothing to show.
    """
    if not (root / "reports/README.md").is_file():
        raise FileNotFoundError(f"{root / 'reports/README.md'} not found; run: make study")
    shutil.rmtree(target, ignore_errors=True)
    assets = sorted(path.relative_to(root / "reports") for path in _files(root / "reports") if path.suffix in ASSETS)
    for asset in assets:
        (target / asset).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / "reports" / asset, target / asset)
    pictures = [PurePosixPath(asset) for asset in assets if asset.suffix == ".png"]
    pages = [*report_pages(root / "reports"), *paper_pages(root / "docs"), *guide_pages(root / "docs")]
    pages += [figures_page(pictures), provenance_page(root)]
    pages.insert(0, index_page(root, pages))
    template = Environment(autoescape=True).from_string(TEMPLATE.read_text(encoding="utf-8"))
    links = {source: page.path for page in pages for source in (*page.sources, str(page.path))}
    links |= {str(asset): PurePosixPath(asset) for asset in assets}
    for page in pages:
        body = finish(page, pages, links, pictures)
        html = template.render(page=page, body=body, pages=pages, up=_up(page.path), code_css=_code_css())
        (target / page.path).parent.mkdir(parents=True, exist_ok=True)
        (target / page.path).write_text(html, encoding="utf-8")
    return pages


def report_pages(reports: Path) -> Iterator[Page]:
    """Every Markdown page and executed notebook under reports/ but for the index."""
    for path in _files(reports):
        name = path.relative_to(reports)
        if path.suffix == ".ipynb":
            body, target = notebook_html(path), name.with_suffix(".notebook.html")
        elif path.suffix == ".md" and name != Path("README.md"):
            body, target = markdown2html(path.read_text(encoding="utf-8")), name.with_suffix(".html")
        else:
            continue
        title = _first_heading(body) or f"{name.parts[0]}: {name.stem}"
        yield Page(PurePosixPath(target), title, body, Path(name.parts[0]).stem, (name.as_posix(),))


def paper_pages(docs: Path) -> Iterator[Page]:
    """One page per paper: its ledger of open questions; `finish` puts the network's pages and pictures before it."""
    for path in sorted(docs.glob("ledger_*.md")):
        network = path.stem.removeprefix("ledger_")
        name, _, ledger = path.read_text(encoding="utf-8").removeprefix("# ").partition(": ")
        body = markdown2html(f"# {name}\n\n## {ledger[0].upper()}{ledger[1:]}")
        yield Page(
            PurePosixPath(f"networks/{network}.html"), name, body, "networks", (f"../docs/{path.name}",), network
        )


def guide_pages(docs: Path) -> Iterator[Page]:
    for path in sorted(docs.glob("*.md")):
        if not path.stem.startswith("ledger_") and path.stem != "question":
            body = markdown2html(path.read_text(encoding="utf-8"))
            target = PurePosixPath(f"guides/{path.stem}.html")
            yield Page(target, _first_heading(body), body, "guides", (f"../docs/{path.name}",))


def figures_page(pictures: list[PurePosixPath]) -> Page:
    """All pictures by folder."""
    folders = sorted({picture.parent for picture in pictures})
    parts = ["<h1>All figures</h1>"]
    for folder in folders:
        parts.append(f"<h2>{folder}</h2>")
        parts += [_figure(picture) for picture in pictures if picture.parent == folder]
    return Page(PurePosixPath("figures.html"), "All figures", "".join(parts), "about")


def provenance_page(root: Path) -> Page:
    """Commit, parameters, data and environment that the site was made from."""
    params = load_params(root / "params.yaml")
    manifests = [json.loads(path.read_text()) for path in sorted((root / "work/data").glob("*.json"))]
    rows = {
        "commit": _git(root, "rev-parse", "HEAD"),
        "changed since": _git(root, "status", "--porcelain", "--untracked-files=no").replace("\n", ", ") or "nothing",
        **{f"annotations of {data['dataset']}, SHA-256": data["annotations_sha256"] for data in manifests},
        **{f"{name}, SHA-256": _sha256(root / name) for name in ("data.dvc", "dvc.lock", "params.yaml")},
        "requirements.lock, SHA-256": _sha256(root / "requirements.lock"),
        "Python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }
    table = "| what | which |\n|---|---|\n" + "".join(f"| {name} | `{value}` |\n" for name, value in rows.items())
    chosen = {key: params[key] for key in ("profile", "datasets", "networks", "seeds")}
    chosen |= {f"profiles.{params['profile']}": profile_params(params)}
    parameters = yaml.safe_dump(chosen, sort_keys=False, width=100)
    text = f"# Provenance\n\n{table}\n## Parameters\n\n```yaml\n{parameters}```\n"
    return Page(PurePosixPath("provenance.html"), "Provenance", markdown2html(text), "about")


def index_page(root: Path, pages: list[Page]) -> Page:
    """Question and method, what was found, and every page by section."""
    question = (root / "docs/question.md").read_text(encoding="utf-8")
    found = (root / "reports/README.md").read_text(encoding="utf-8")
    found = re.sub(r"^(#+ )", r"#\1", found, flags=re.M)  # its title becomes a section
    lists = ["## All pages"]
    for section in dict.fromkeys(page.section for page in pages):
        lists.append(f"### {section.replace('_', ' ').capitalize()}")
        listed = [page for page in pages if page.section == section]
        titles = Counter(page.title for page in listed)
        for page in listed:
            where = f" ({page.path.parent.name})" if titles[page.title] > 1 else ""
            lists.append(f"- [{page.title}{where}]({page.path})")
    body = markdown2html("\n\n".join([question, found])) + markdown2html("\n".join(f"\n{line}" for line in lists))
    return Page(PurePosixPath("index.html"), _first_heading(body), body, "", ("README.md",))


def finish(page: Page, pages: list[Page], links: dict[str, PurePosixPath], pictures: list[PurePosixPath]) -> str:
    """The page's body with links to what the site has, words for every picture, wide things in frames that scroll."""
    soup = BeautifulSoup(page.body, "html.parser")
    if page.network:
        soup.h1.insert_after(BeautifulSoup(_results_of(page, pages, pictures), "html.parser"))
    for mark in soup.select("a.anchor-link"):
        mark.decompose()  # nbconvert's, on every heading
    if not soup.h1:
        soup.insert(0, BeautifulSoup(f"<h1>{page.title}</h1>", "html.parser"))
    for link in soup.find_all("a", href=True):
        if not re.match(r"[a-z]+:|#", link["href"]):
            _relink(link, page.path, links)
    for picture in soup.find_all("img"):
        if not picture.get("alt", "").strip() or picture["alt"].startswith("No description"):
            picture["alt"] = _words_before(picture)
        picture["loading"] = "lazy"
        picture.wrap(soup.new_tag("div", attrs={"class": "picture"}))
    for cell in soup.find_all("td"):
        if len(cell.get_text(strip=True)) <= SHORT_CELL:
            cell["class"] = [*cell.get("class", []), "short"]
    for table in soup.find_all("table"):
        frame = soup.new_tag("div", attrs={"class": "table", "tabindex": "0", "role": "region", "aria-label": "Table"})
        table.wrap(frame)
    return str(soup)


def notebook_html(path: Path) -> str:
    exporter = HTMLExporter(raw_template=NOTEBOOK, exclude_input_prompt=True, exclude_output_prompt=True)
    body, _ = exporter.from_notebook_node(nbformat.read(path, as_version=4))
    return body


def _results_of(paper: Page, pages: list[Page], pictures: list[PurePosixPath]) -> str:
    """Links to the pages in folders of the paper's network, and the pictures there."""
    network, up = paper.network, _up(paper.path)
    own = [page for page in pages if network in page.path.parts[:-1]]
    listed = "".join(f'<li><a href="{up}{page.path}">{page.section}: {page.title}</a></li>' for page in own)
    shown = "".join(_figure(picture, up) for picture in pictures if network in picture.parts)
    return f"<h2>Results and figures</h2><ul>{listed}</ul>{shown}" if own or shown else ""


def _relink(link: Tag, page: PurePosixPath, links: dict[str, PurePosixPath]) -> None:
    """Point a relative link of a report at the site's page; one that leads out of the site becomes plain text."""
    name, _, anchor = link["href"].partition("#")
    source = os.path.normpath(page.parent / name)
    if source not in links:
        link.unwrap()
        return
    link["href"] = _up(page) + str(links[source]) + (f"#{anchor}" if anchor else "")


def _words_before(picture: Tag) -> str:
    """The heading above a picture and the first sentence after that heading."""
    heading = picture.find_previous(["h1", "h2", "h3", "h4"])
    if heading is None:
        return "figure"
    paragraph = heading.find_next(["p", "img"])
    sentence = paragraph.get_text(" ", strip=True).split(". ")[0] if paragraph and paragraph.name == "p" else ""
    return f"{_text_of(heading)}. {sentence}".strip()


def _figure(picture: PurePosixPath, up: str = "") -> str:
    """A picture with its name and, if it tells one of a paper's stories, what to look for."""
    words = " / ".join(part.replace("_", " ") for part in picture.with_suffix("").parts)
    told = [story.text for story in STORIES.get(picture.parent.name, ()) if story.name == picture.stem]
    caption = ". ".join([words, *told])
    return f'<figure><img src="{up}{picture}" alt="{caption}"><figcaption>{caption}</figcaption></figure>'


def _first_heading(body: str) -> str:
    heading = BeautifulSoup(body, "html.parser").find(["h1", "h2"])
    return _text_of(heading) if heading else ""


def _text_of(heading: Tag) -> str:
    return heading.get_text().rstrip("¶").strip()  # nbconvert hangs a link of that name on every heading


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and ".ipynb_checkpoints" not in path.parts)


def _up(page: PurePosixPath) -> str:
    return "../" * len(page.parent.parts)


def _git(root: Path, *arguments: str) -> str:
    return subprocess.check_output(["git", *arguments], cwd=root, text=True).strip()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "not there"


def _code_css() -> str:
    return HtmlFormatter().get_style_defs(".highlight")


if __name__ == "__main__":
    built = build(Path.cwd(), Path(sys.argv[1]))
    print(f"{len(built)} pages: {Path(sys.argv[1]) / 'index.html'}")
