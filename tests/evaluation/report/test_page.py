"""The page and the Markdown without a browser: whole, harmless, and no figure lost."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import chain, pairwise

import numpy as np
import pytest
import synthetic_evaluation as synthetic
from hypothesis import given
from hypothesis import strategies as st

from lreorg_fast.evaluation.measured import METRICS, Evaluation, Measured
from lreorg_fast.evaluation.paper import TABLES
from lreorg_fast.evaluation.report import FeatureSet
from lreorg_fast.evaluation.report.grid import copied_number
from lreorg_fast.evaluation.report.html import html_page
from lreorg_fast.evaluation.report.markdown import markdown_text
from lreorg_fast.evaluation.report.sections import LONGEST_TITLE, compose
from lreorg_fast.evaluation.report.text import (
    DASH,
    code_span,
    interval,
    markdown,
    markup,
    number,
    plain,
)

VOID = {"meta", "link", "img", "br"}
# What can load something, run something or leave the page.
ACTIVE = {"script", "iframe", "object", "embed", "form", "base", "video", "audio", "use", "image"}


class Page(HTMLParser):
    """Checks that tags are balanced while it reads, and keeps what the tests look at."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.rows: list[tuple[str, list[str]]] = []
        self.footnotes: list[int] = []
        self.texts: list[str] = []
        self._dashes: list[list[int]] = []
        self.unexplained = 0
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attributes}))
        if tag in VOID:
            return
        self.open.append(tag)
        if tag == "tr":
            self.rows.append(("", []))
        if tag == "td":
            self.rows[-1][1].append("")
        if tag == "sup":
            self.texts.append("")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attributes}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if "td" in self.open:
            cells = self.rows[-1][1]
            cells[-1] += f" {data}"
        elif "th" in self.open and self.rows:
            self.rows[-1] = (self.rows[-1][0] + data, self.rows[-1][1])


@pytest.fixture(scope="module")
def everything() -> Evaluation:
    return synthetic.evaluation()


@pytest.fixture(scope="module")
def text(everything: Evaluation) -> str:
    features = np.random.default_rng(0).normal(size=(40, 6))
    labels = [synthetic.HOSTILE[index % 3] for index in range(40)]
    given = [FeatureSet(f"Embeddings {synthetic.HOSTILE[0]}", features, labels, "pca")]
    return html_page(compose(everything, synthetic.samples(), given))


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


# --- harmless -------------------------------------------------------------------------------


def test_nothing_in_the_page_can_load_run_or_leave(page: Page) -> None:
    assert not ACTIVE & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name not in ("style", "srcset", "action", "xlink:href"), (tag, name)
            if name == "src":
                assert value.startswith("data:image/webp;base64,")
            if name == "href":
                assert value == "data:," or value.startswith("#")
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    targets = {a["href"][1:] for _, a in page.tags if a.get("href", "").startswith("#")}
    assert targets == ids


def test_the_style_sheet_asks_for_nothing_and_is_the_only_one_that_is_allowed(
    text: str, page: Page
) -> None:
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert not re.search(r"url\(|@import|@font-face|expression|http", style)
    policy = next(a["content"] for tag, a in page.tags if "http-equiv" in a)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


def test_hostile_names_are_shown_and_do_nothing(text: str, page: Page) -> None:
    assert "<script>alert" not in text
    assert "<img src=http" not in text
    shown = "".join(page.texts)
    assert plain(synthetic.HOSTILE[0], LONGEST_TITLE) in shown
    assert plain(synthetic.HOSTILE[1], LONGEST_TITLE) in shown
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00\x1b\ud800-\udfff]", shown)
    text.encode("utf-8")


@given(st.text(st.characters(exclude_categories=[]), max_size=80))
def test_any_text_is_one_harmless_line(text: str) -> None:
    line = plain(text)
    line.encode("utf-8")
    assert len(line.splitlines()) <= 1
    reader = Page(f'<td title="{markup(text)}">{markup(text)}</td>'.join(("<tr>", "</tr>")))
    assert reader.tags[1][1]["title"] == line
    assert "".join(reader.texts) == line
    escaped = markdown(text)
    assert re.sub(r"\\(.)", r"\1", escaped) == line
    assert not re.search(r"(?<!\\)(?:\\\\)*[|<`\[]", escaped)


@given(st.text("`a |", max_size=30))
def test_a_code_span_ends_where_it_should(text: str) -> None:
    span = code_span(text)
    fence = re.match("`+", span)
    assert fence is not None
    inside = span[len(fence.group()) : -len(fence.group())]
    assert all(run != fence.group() for run in re.findall("`+", inside))
    assert inside.strip() == plain(text).strip()


# --- nothing is lost ------------------------------------------------------------------------


def cell_of(entry: Measured) -> tuple[str, str]:
    assert entry.figure is not None
    value = number(entry.metric, entry.figure.value)
    return value, f"{interval(entry.metric, entry.figure)} n = {entry.figure.n:,}"


def test_every_figure_stands_in_the_row_of_its_method(everything: Evaluation, page: Page) -> None:
    # A table with methods across has them in its heads; its cells are looked for anywhere.
    anywhere = {cell for _, cells in page.rows for cell in cells}
    by_method: dict[str, str] = {}
    for header, cells in page.rows:
        by_method[header] = by_method.get(header, "") + " ".join(cells)
    for method in everything.methods:
        title = plain(method.title, LONGEST_TITLE)
        for entry in method.measured:
            if entry.figure is None:
                continue
            value, detail = cell_of(entry)
            if entry.metric == "recovery" or (entry.metric, entry.where) == ("released", {}):
                assert any(value in cell and detail in cell for cell in anywhere), entry
            else:
                assert detail in by_method[title], (title, entry)
    for entry in everything.judged:
        if entry.figure is not None:
            assert any(cell_of(entry)[1] in cell for cell in anywhere), entry


def test_every_dash_has_a_footnote_that_exists(text: str) -> None:
    dashes = 0
    for figure in re.findall(r'<figure class="table">.*?</figure>', text, re.DOTALL):
        notes = re.findall(r"<li>", figure.partition('<ol class="notes">')[2])
        for cell in re.findall(r"<td[^>]*>.*?</td>", figure, re.DOTALL):
            numbers = [int(number) for number in re.findall(r"<sup>(\d+)</sup>", cell)]
            assert all(1 <= number <= len(notes) for number in numbers)
            if f">{DASH}<" in cell:
                dashes += 1
                assert numbers, cell
    assert dashes > 100


def test_a_figure_that_no_table_knows_is_kept(everything: Evaluation, page: Page) -> None:
    """The second figure about the same, and a combination that no table has a column for."""
    for method in everything.methods:
        if method.name != "fill":
            _, detail = cell_of(method.measured[-1])
            assert any(detail in cell for _, cells in page.rows for cell in cells)
    captions = "".join(page.texts)
    assert "Further figures of blur" in captions


def test_the_reasons_of_a_run_that_measured_nothing_are_all_there() -> None:
    thin = synthetic.evaluation(thin=True)
    document = compose(thin, {}, ())
    for text in ("".join(Page(html_page(document)).texts), markdown_text(document)):
        assert "pip install" in text
        assert "No method can be placed between protection and usefulness" in text.replace("\\", "")
    Page(html_page(document))


def test_an_evaluation_without_methods_is_a_page_too() -> None:
    empty = Evaluation({}, {}, (), (), {})
    page = Page(html_page(compose(empty, {}, ())))
    assert "0 methods were judged" in "".join(page.texts)


def test_tables_have_a_caption_and_pictures_a_description(page: Page) -> None:
    tags = [tag for tag, _ in page.tags]
    assert tags.count("table") == tags.count("caption") > 15
    for tag, attributes in page.tags:
        if tag == "img":
            assert "pictures" in attributes["alt"]
            assert int(attributes["width"]) > 0
        if tag == "svg" and attributes.get("class") == "plot":
            assert len(attributes["aria-label"]) > 20
        if tag == "th":
            assert attributes["scope"] in ("row", "col", "colgroup")
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_every_row_has_as_many_cells_as_its_table_has_columns(everything: Evaluation) -> None:
    document = compose(everything, {}, ())
    for section in document.sections:
        for block in section.blocks:
            if hasattr(block, "columns"):
                assert all(len(row.cells) == len(block.columns) for row in block.rows)


def test_measuring_tables_name_the_command(everything: Evaluation, page: Page) -> None:
    command = plain(str(everything.run["command"]), 2000)
    assert page.texts.count(command) > 10


def test_the_papers_own_figures_stand_beside_and_below(page: Page) -> None:
    rows = dict(page.rows)
    assert [cell.split()[0] for cell in rows["CIAGAN"][-5:]] == [
        "97.4", "97.3", "100", "74.0", "102.8",
    ]  # fmt: skip
    (usual, *_) = [cells for header, cells in page.rows if header == "LREORG"]
    assert [cell.split()[0] for cell in usual[-5:]] == ["98.4", "98.8", "100", "82.0", "40.1"]


def test_on_lfw_the_papers_figures_of_lfw_stand_beside(everything: Evaluation) -> None:
    lfw = replace(everything, data={**everything.data, "name": "LFW, aligned"})
    page = Page(html_page(compose(lfw, {}, ())))
    (usual, *_) = [cells for header, cells in page.rows if header == "LREORG"]
    assert [cell.split()[0] for cell in usual[-5:]] == ["99.6", "99.6", "100", "78.8", "73.9"]
    assert "CLIP2Protect" not in dict(page.rows)


# --- Markdown -------------------------------------------------------------------------------


def test_markdown_holds_the_same_figures_in_tables_that_are_whole(everything: Evaluation) -> None:
    text = markdown_text(compose(everything, synthetic.samples(), ()))
    bare = text.replace("\\", "")
    for method in everything.methods:
        for entry in method.measured:
            if entry.figure is not None:
                assert cell_of(entry)[1] in bare
    width = 0
    for line in text.splitlines():
        pipes = len(re.findall(r"(?<!\\)\|", line))
        if line.startswith("|"):
            width = width or pipes
            assert pipes == width, line
        else:
            width = 0
    assert not re.search(r"(?<!\\)<(?!/?sup>)", re.sub(r"(`+).*?\1", "", text))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("![x](http://evil.example/a.png)", r"!\[x\](http\://evil.example/a.png)"),
        ("www.evil.example", r"www\.evil.example"),
        ("# heading", r"\# heading"),
        ("- item", r"\- item"),
        ("12. item", r"12\. item"),
        ("===", r"\==="),
        ("a_b*c* ~d~ <e> &amp; $f$ @g", r"a\_b\*c\* \~d\~ \<e\> \&amp; \$f\$ \@g"),
        ("k-anonymity (farthest), 12.5%", "k-anonymity (farthest), 12.5%"),
    ],
)
def test_threats_of_markdown_are_text_and_plain_words_are_left(text: str, shown: str) -> None:
    assert markdown(text) == shown


def test_every_metric_of_the_vocabulary_is_in_the_glossary(everything: Evaluation) -> None:
    glossary = compose(everything, {}, ()).sections[-1]
    titles = {row.header for block in glossary.blocks for row in block.rows}
    assert titles == {metric.title for metric in METRICS.values()}


def test_the_papers_tables_are_shown_whole(everything: Evaluation) -> None:
    """Every copied number is somewhere, so that no table of the paper is forgotten."""
    document = compose(everything, {}, ())
    blocks = chain.from_iterable(section.blocks for section in document.sections)
    rows = [row for block in blocks if hasattr(block, "columns") for row in block.rows]
    texts = {cell.text for row in rows for cell in row.cells}
    for name, table in TABLES.items():
        if name != "lfw":  # shown in the place of CelebA-HQ's
            for row in table.rows:
                assert {copied_number(value) for value in row.values.values()} <= texts, (name, row)
