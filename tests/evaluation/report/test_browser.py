"""The page in a real browser, on a phone and on a desk, light and dark; skipped without one."""

from __future__ import annotations

import base64
import io
import struct
from collections.abc import Iterator
from pathlib import Path

import headless_browser as browser
import numpy as np
import pytest
import synthetic_evaluation as synthetic
from PIL import Image

from lreorg_fast.evaluation.report import FeatureSet, write_report

pytestmark = pytest.mark.skipif(
    browser.installed() is None,
    reason="no Chromium or Chrome is on the PATH; apt-get install chromium",
)

# Everything that is wider than the page and is not inside of a box that scrolls.
_WIDER = """[...document.querySelectorAll('body *')].filter(e => !e.closest('.box') &&
  e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
  .map(e => e.tagName + '.' + e.getAttribute('class')).slice(0, 5)"""
# The least contrast of any text with what lies behind it, and of any mark or bar with the page
# (WCAG 2: relative luminance; 4.5 for text and 3 for drawings).
_CONTRAST = """(() => {
  const parse = c => c.match(/[0-9.]+/g).map(Number);
  const light = c => { const [r, g, b] = parse(c).map(v => { v /= 255;
    return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4 });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b };
  const behind = e => { for (; e; e = e.parentElement) {
    const c = getComputedStyle(e).backgroundColor;
    if (c !== 'transparent' && parse(c)[3] !== 0) return c } return 'rgb(255, 255, 255)' };
  const ratio = (x, y) => { const [a, b] = [light(x), light(y)].sort((p, q) => q - p);
    return (a + 0.05) / (b + 0.05) };
  const worst = { text: [99, ''], drawn: [99, ''] };
  const note = (kind, e, value) => { if (value < worst[kind][0])
    worst[kind] = [value, e.tagName + ' ' + e.getAttribute('class') + ' ' + e.textContent] };
  for (const e of document.querySelectorAll('body *')) {
    const style = getComputedStyle(e), written = e.tagName !== 'title' &&
      [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    if (written) note('text', e,
      ratio(e instanceof SVGElement ? style.fill : style.color, behind(e)));
    if (e.matches('.mark, .bar')) note('drawn', e, ratio(style.fill, behind(e)));
  }
  return worst })()"""
_SMALLEST_PLOT_TEXT = """Math.min(...[...document.querySelectorAll('svg.plot text')].map(
  t => t.getBoundingClientRect().height))"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    features = np.random.default_rng(0).normal(size=(40, 6))
    given = [FeatureSet("Embeddings", features, [f"person {i % 4}" for i in range(40)], "pca")]
    return write_report(synthetic.evaluation(), folder, synthetic.samples(), given)[-1]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Page]:
    with browser.browser(tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_fits_reads_well_and_asks_for_nothing(
    page: browser.Page, report: Path, width: int, dark: bool
) -> None:
    page.open(report.as_uri(), width, dark)
    assert page.evaluate("document.querySelectorAll('table').length") > 15
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(_WIDER) == []
    worst = page.evaluate(_CONTRAST)
    assert worst["text"][0] >= 4.5, worst
    assert worst["drawn"][0] >= 3, worst
    assert page.evaluate(_SMALLEST_PLOT_TEXT) >= 11
    assert page.evaluate(
        "[...document.images].every(i => i.complete && i.naturalWidth === i.width)"
    )
    assert page.complaints() == []
    asked = [address for address in page.requests() if not address.startswith("data:")]
    assert asked == [report.as_uri()]


def test_wide_tables_scroll_inside_of_their_box(page: browser.Page, report: Path) -> None:
    page.open(report.as_uri(), 360, dark=False)
    wide = "[...document.querySelectorAll('.box')].filter(b => b.scrollWidth > b.clientWidth)"
    assert page.evaluate(f"{wide}.length") > 10
    moved = f"(b => {{ b.scrollLeft = 50; return b.scrollLeft }})({wide}[0])"
    assert page.evaluate(moved) == 50


def test_the_scheme_of_the_reader_is_followed(page: browser.Page, report: Path) -> None:
    corners = []
    for dark in (False, True):
        page.open(report.as_uri(), 360, dark)
        shot = Image.open(io.BytesIO(page.screenshot(height=50))).convert("L")
        corners.append(shot.getpixel((2, 2)))
    assert corners[0] > 240
    assert corners[1] < 40


def test_the_browser_would_have_complained(page: browser.Page, tmp_path: Path) -> None:
    """The checks above can fail: a page that breaks the rules is noticed."""
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'\">"
        "<p style='width:900px'>x</p><script>alert(1)</script>"
        "<img src='http://192.0.2.1/x.png'>",
        encoding="utf-8",
    )
    page.open(bad.as_uri(), 360, dark=False)
    assert page.complaints()


def test_pictures_of_the_page_are_what_was_given(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    start = text.index("data:image/webp;base64,") + len("data:image/webp;base64,")
    data = base64.b64decode(text[start : text.index('"', start)])
    assert struct.unpack("<4sI4s", data[:12])[0::2] == (b"RIFF", b"WEBP")
    strip = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=int)
    first = synthetic.samples()["original"][2]
    assert first is not None
    middle = strip[48, 2 * 98 + 48]
    assert np.abs(middle - first[32, 32]).max() < 25
