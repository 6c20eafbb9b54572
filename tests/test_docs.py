"""What README.md and docs/ say: their code runs as written, their links lead somewhere."""

import pathlib
import re

import pytest

from seglib.scenes import write_scenes

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LONG = {"README", "training"}  # 30 to 40 s on two cores
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def read(page):
    return page.read_text(encoding="utf-8")


def extract_code(text):
    """The code of all blocks, in the lines where the page has it."""
    lines = [""] * len(text.splitlines())
    for block in BLOCK.finditer(text):
        first = text[: block.start(1)].count("\n")
        code = block[1].splitlines()
        lines[first : first + len(code)] = code
    return "\n".join(lines)


def list_anchors(text):
    """What GitHub calls the headings of a page."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    """A folder with data/streets in it, of 20 scenes, and outputs/."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "outputs").mkdir()
    write_scenes(folder / "data/streets", num_scenes=20)
    return folder


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.stem, marks=[pytest.mark.long] * (page.stem in LONG))
        for page in PAGES
        if BLOCK.search(read(page))
    ],
)
def test_code_runs_as_written(page, streets, monkeypatch):
    monkeypatch.chdir(streets)
    exec(compile(extract_code(read(page)), page, "exec"), {"__name__": "__main__"})


def test_code_keeps_its_lines():
    assert extract_code("# A\n\n```python\na = 1\n\nb = 2\n```\n").splitlines() == [
        *("", "", ""),
        *("a = 1", "", "b = 2"),
    ]


def test_readme_is_short():
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", read(ROOT / "README.md"))  # as it is shown
    assert len(text.split()) <= 900


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    for link in LINK.findall(read(page)):
        path, _, anchor = link.partition("#")
        if path.startswith(("http:", "https:")):
            continue
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in list_anchors(read(target)), link
