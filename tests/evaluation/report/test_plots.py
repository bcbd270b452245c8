"""Plots and pictures: in their frame, of bounded size, and nothing drawn that was not measured."""

from __future__ import annotations

import base64
import io
import re
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import synthetic_evaluation as synthetic
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lreorg_fast.errors import ConfigError
from lreorg_fast.evaluation.report.front import naive_front, parrot_front
from lreorg_fast.evaluation.report.plots import attribute_bars, cluster_plots, scatter
from lreorg_fast.evaluation.report.projection import MOST_GROUPS, MOST_POINTS, FeatureSet, project
from lreorg_fast.evaluation.report.sheets import MOST_COLUMNS, MOST_ROWS, SIDE, sheet, strip
from lreorg_fast.evaluation.report.svg import WIDTH, Scale, free_place, mark, scale_of

finite = st.floats(-1e6, 1e6, allow_nan=False)


@given(st.lists(finite, min_size=1, max_size=20))
def test_a_scale_holds_its_values_and_some_ticks(values: list[float]) -> None:
    scale = scale_of(values, 40, 330)
    assert all(40 <= scale(value) <= 330 for value in values)
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 8
    assert all(40 - 1e-6 <= scale(tick) <= 330 + 1e-6 for tick in ticks)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=20))
def test_shares_stay_between_0_and_100(values: list[float]) -> None:
    scale = scale_of(values, 300, 20, (0, 100))
    assert -2 <= scale.low < scale.high <= 102
    assert all(20 - 1e-6 <= scale(value) <= 300 + 1e-6 for value in values)


def test_a_scale_is_linear() -> None:
    scale = Scale(0, 50, 300, 100)
    assert [scale(value) for value in (0, 25, 50)] == [300, 200, 100]


def test_marks_differ_in_shape_where_colours_repeat() -> None:
    shapes = [re.sub(r'class="[^"]*"', "", mark(index, 0, 0)) for index in range(16)]
    colours = [re.findall(r"c\d", mark(index, 0, 0))[0] for index in range(16)]
    assert len(set(shapes[:8])) == 8
    assert len(set(zip(shapes, colours, strict=True))) == 16


def test_labels_do_not_cover_each_other() -> None:
    taken: list[tuple[float, float, float, float]] = []
    for index in range(6):
        free_place(100, 100, str(index), taken, WIDTH)
    for i, (left, top, right, bottom) in enumerate(taken):
        for l2, t2, r2, b2 in taken[:i]:
            assert min(right, r2) <= max(left, l2) or min(bottom, b2) <= max(top, t2)


def test_the_scatter_draws_each_method_once_per_front_inside_of_its_frame() -> None:
    methods = synthetic.evaluation().methods
    plot = scatter([naive_front(methods), parrot_front(methods)], methods)
    assert len(plot.drawings) == 2
    for drawing, absent in zip(plot.drawings, (1, 2), strict=True):
        tree = ElementTree.fromstring(drawing)
        marks = [e for e in tree.iter() if "mark" in e.get("class", "")]
        # Without the original and with fill, which has no figure; the parrot has none of blur.
        assert len(marks) == len(synthetic.METHODS) - absent
        height = float(tree.get("viewBox", "").split()[3])
        for element in tree.iter():
            for name, most in (("x1", WIDTH), ("x2", WIDTH), ("y1", height), ("y2", height)):
                assert 0 <= float(element.get(name, 0)) <= most
    assert len(plot.keys) == len(synthetic.METHODS) - 1
    assert any(note.startswith("fill") for note in plot.footnotes)
    assert any(note.startswith("blur") for note in plot.footnotes)
    numbers = [re.findall(r'class="tag"[^>]*>(\d+)<', drawing) for drawing in plot.drawings]
    assert set(numbers[1]) < set(numbers[0])


def test_bars_have_the_length_of_their_value() -> None:
    evaluation = synthetic.evaluation()
    plot = attribute_bars(evaluation)
    assert plot is not None
    assert len(plot.drawings) == len(synthetic.ATTRIBUTES)
    tree = ElementTree.fromstring(plot.drawings[0])
    bars = [float(e.get("width", 0)) for e in tree.iter() if "bar" in e.get("class", "").split()]
    values = []
    for method in evaluation.methods:
        entry = method.find("apr", attribute=synthetic.ATTRIBUTES[0])
        if method.name in synthetic.METHODS and entry is not None and entry.figure is not None:
            values.append(entry.figure.value)
    assert len(bars) == len(values) == len(synthetic.METHODS)
    lengths = np.array(bars) / np.array(values)
    assert lengths == pytest.approx(np.full(len(bars), lengths[0]), rel=1e-3)


def test_nothing_is_drawn_of_nothing() -> None:
    methods = synthetic.evaluation(thin=True).methods
    plot = scatter([naive_front(methods)], methods)
    assert plot.drawings == ()
    assert len(plot.footnotes) == len(synthetic.METHODS)


# --- clusters -------------------------------------------------------------------------------


def people(groups: int, each: int, apart: float, method: str = "pca") -> FeatureSet:
    random = np.random.default_rng(0)
    centres = random.normal(size=(groups, 1, 16)) * apart
    features = (centres + random.normal(size=(groups, each, 16))).reshape(-1, 16)
    return FeatureSet("x", features, [f"p{i}" for i in range(groups) for _ in range(each)], method)


@pytest.mark.parametrize("method", ["pca", "tsne"])
def test_people_who_are_apart_are_apart_in_the_plot(method: str) -> None:
    clusters = project(people(3, 12, 20, method))
    assert clusters.points is not None
    centres = clusters.points.reshape(3, 12, 2).mean(axis=1)
    nearest = np.linalg.norm(clusters.points[:, None] - centres[None], axis=2).argmin(axis=1)
    assert (nearest == np.repeat(np.arange(3), 12)).all()
    (plot,) = cluster_plots([clusters])
    assert [key.name for key in plot.keys] == ["p0", "p1", "p2"]


def test_sets_of_the_same_people_share_a_legend() -> None:
    same = [project(people(2, 10, 5)), project(people(2, 10, 1))]
    plots = cluster_plots([*same, project(people(3, 10, 5))])
    assert [len(plot.drawings) for plot in plots] == [2, 1]
    assert [len(plot.keys) for plot in plots] == [2, 3]
    assert all(plot.drawings[0].count('class="mark') in (20, 30) for plot in plots)


def test_only_so_many_people_and_points_are_drawn() -> None:
    clusters = project(people(MOST_GROUPS + 2, 200, 1))
    assert clusters.points is not None
    assert clusters.points.shape == (MOST_POINTS, 2)
    assert len(set(clusters.labels)) == MOST_GROUPS
    assert clusters.missing.startswith("1000 beyond")


def test_faces_without_a_feature_are_counted() -> None:
    given_set = people(2, 10, 5)
    given_set.features[3] = np.nan
    clusters = project(given_set)
    assert clusters.points is not None
    assert len(clusters.points) == 19
    assert clusters.missing == "1 without a feature"


@pytest.mark.parametrize("features", [np.zeros((20, 3)), np.full((20, 3), np.nan), np.eye(4)])
def test_what_cannot_be_projected_has_a_reason(features: np.ndarray) -> None:
    (plot,) = cluster_plots([project(FeatureSet("x", features, ["a"] * len(features)))])
    assert plot.drawings == ()
    assert "needs 5 that differ" in plot.footnotes[0]


def test_without_scikit_learn_the_plot_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.decomposition", None)
    (plot,) = cluster_plots([project(people(2, 10, 5))])
    assert plot.drawings == ()
    assert "pip install 'lreorg_fast[evaluate]'" in plot.footnotes[0]


@pytest.mark.parametrize(
    ("features", "labels", "method", "message"),
    [
        (np.zeros((3, 2)), ["a"], "pca", "with N labels"),
        (np.zeros(3), ["a"] * 3, "pca", "must be"),
        (np.zeros((1, 2)), ["a"], "umap", "'umap' must be one of"),
    ],
)
def test_wrong_features_are_refused(
    features: np.ndarray, labels: list[str], method: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        FeatureSet("x", features, labels, method)


# --- contact sheets -------------------------------------------------------------------------


def pixels(source: str) -> np.ndarray:
    data = base64.b64decode(source.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=int)


def test_a_strip_holds_the_pictures_in_order_and_crosses_what_is_missing() -> None:
    red, blue = (np.full((50, 50, 3), colour, np.uint8) for colour in ((200, 0, 0), (0, 0, 200)))
    made = strip("m", [red, None, blue])
    image = pixels(made.source)
    assert image.shape == (made.height, made.width, 3) == (SIDE, 3 * SIDE + 4, 3)
    assert np.abs(image[48, 48] - (200, 0, 0)).max() < 12
    assert np.abs(image[48, 2 * (SIDE + 2) + 48] - (0, 0, 200)).max() < 12
    missing = image[:, SIDE + 4 : 2 * SIDE]
    assert missing[48, 44].max() < 100  # the cross
    assert np.abs(missing[20, 44] - 128).max() < 12
    assert made.alternative == "m: 3 pictures, 1 of them not released"


def test_a_picture_that_is_not_square_is_shown_whole() -> None:
    wide = np.full((40, 80, 3), 250, np.uint8)
    image = pixels(strip("m", [wide]).source)
    assert image[48, 4].min() > 230
    assert np.abs(image[4, 48] - 128).max() < 12


def test_the_size_of_a_sheet_is_bounded_for_any_pictures() -> None:
    random = np.random.default_rng(0)
    noise = [random.integers(0, 256, (256, 256, 3), dtype=np.uint8) for _ in range(20)]
    made = sheet({f"row {i}": noise for i in range(MOST_ROWS + 3)}, {})
    assert made is not None
    assert len(made.strips) == MOST_ROWS
    assert made.strips[0].width == MOST_COLUMNS * (SIDE + 2) - 2
    assert f"{MOST_ROWS} of {MOST_ROWS + 3} rows and {MOST_COLUMNS} of 20 columns" in made.caption
    # Noise is the worst: 48 rows of it make 5 MB.
    assert sum(len(strip.source) for strip in made.strips) < 6e6


def test_rows_of_methods_carry_their_titles() -> None:
    black = np.zeros((8, 8, 3), np.uint8)
    made = sheet({"lreorg": [black], "other": [black], "none": []}, {"lreorg": "LReOrg"})
    assert made is not None
    assert [strip.label for strip in made.strips] == ["LReOrg", "other"]
    assert sheet({}, {}) is None
