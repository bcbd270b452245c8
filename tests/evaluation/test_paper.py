"""The paper's figures: copied whole, and none that it does not give."""

from __future__ import annotations

import pytest

from lreorg_fast.evaluation import paper


def test_figures_are_the_papers() -> None:
    """One line of each table, typed a second time."""
    own = paper.CELEBA_HQ.row("lreorg")
    assert own is not None
    assert dict(own.values) == {
        "PSR ArcFace": 98.4, "PSR AdaFace": 98.8, "detection": 100, "APR": 82.0, "FID": 40.1,
    }  # fmt: skip
    assert [row.method for row in paper.LFW.rows] == [
        "ciagan", "deepprivacy", "dartblur", "deepprivacy2", "ldfa", "lreorg",
    ]  # fmt: skip
    bare = "lreorg+gender-farthest-not-recovered"
    for table, method, values in (
        (paper.LFW, "deepprivacy2", [94.6, 96.4, 100, 83.8, 52.2]),
        (paper.JOINT_RECOVERED, "lreorg+expression-farthest", [99.0, 99.1, 53.4, 52.0]),
        (paper.JOINT_NOT_RECOVERED, bare, [99.6, 99.7, 39.9, 53.9]),
        (paper.RECOVERY, "lreorg", [59.5, 99.0, 84.7, 81.4, 84.1]),
        (paper.ALONE, "hide-age-farthest", [27.8, 13.6]),
        (paper.NULLFACE, "nullface", [0.21, 8.2]),
    ):
        row = table.row(method)
        assert row is not None
        assert list(row.values.values()) == values


@pytest.mark.parametrize("table", paper.TABLES.values(), ids=paper.TABLES)
def test_tables_are_whole(table: paper.PaperTable) -> None:
    assert table.source
    assert table.conditions
    assert len({row.method for row in table.rows}) == len(table.rows)
    for row in table.rows:
        assert set(row.values) <= set(table.columns)
        assert all(0 <= value <= 100 for name, value in row.values.items() if name != "FID")


def test_a_figure_that_the_paper_does_not_give_is_not_there() -> None:
    missing = [
        (row.method, column)
        for column in paper.CELEBA_HQ.columns
        for row in paper.CELEBA_HQ.rows
        if column not in row.values
    ]
    assert missing == [("k-anonymity", "detection")]
    assert paper.CELEBA_HQ.row("of-nobody") is None


def test_tables_cannot_be_changed_by_accident() -> None:
    with pytest.raises(TypeError):
        paper.CELEBA_HQ.rows[0].values["APR"] = 100  # type: ignore[index]


@pytest.mark.parametrize(
    ("name", "table"), [("LFW-aligned", paper.LFW), ("avatars", paper.CELEBA_HQ)]
)
def test_the_main_table_follows_the_data(name: str, table: paper.PaperTable) -> None:
    assert paper.usual_table(name) is table
