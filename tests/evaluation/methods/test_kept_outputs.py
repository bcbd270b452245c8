"""Kept outputs: whole folders, plain names, and no pixel of an original."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bundles import RESOLUTION
from method_doubles import Album, leaks

from lreorg_fast.errors import ConfigError, ImageError, OutputError
from lreorg_fast.evaluation.methods import keep_outputs, make_method
from lreorg_fast.media import read_image
from lreorg_fast.media.pictures import FILL_COLOUR, Picture
from lreorg_fast.pipeline import Anonymizer


def test_outputs_are_kept_under_the_originals_names(
    tmp_path: Path, toy: Anonymizer, portraits: list[Picture]
) -> None:
    names = ["b/one.png", "two.bmp", "a", "b/three.v2", "2024 12:30.png"]
    steps: list[tuple[int, int]] = []
    method = make_method("lreorg", toy)
    album = Album(names, [portraits[0], portraits[1][:20], *portraits[2:]])
    target = tmp_path / "new" / "kept"
    assert keep_outputs(method, album, target, progress=lambda *step: steps.append(step)) == 4
    files = sorted(str(p.relative_to(target)) for p in target.rglob("*") if p.is_file())
    assert files == sorted(
        ["b/one.png", "two.bmp", "a.png", "b/three.v2.png", "2024 12:30.png", "outputs.json"]
    )
    assert (read_image(target / "two.bmp") == FILL_COLOUR).all()
    assert read_image(target / "two.bmp").shape == (20, RESOLUTION, 3)
    kept = [read_image(target / name) for name in files if name != "outputs.json"]
    assert not leaks(kept, list(album.pictures))
    record = json.loads((target / "outputs.json").read_text())
    assert record["name"] == "lreorg"
    assert record["command"] == method.command
    assert record["outputs"]["a"] == {"file": "a.png", "released": True}
    assert [n for n, e in record["outputs"].items() if not e["released"]] == ["two.bmp"]
    assert steps == [(5, 5)]


def test_an_earlier_folder_is_replaced_on_request_and_no_other(
    tmp_path: Path, portraits: list[Picture]
) -> None:
    album, method = Album(["a.png"], portraits[:1]), make_method("fill")
    keep_outputs(method, album, tmp_path / "kept")
    with pytest.raises(OutputError, match="exists already"):
        keep_outputs(method, album, tmp_path / "kept")
    assert keep_outputs(method, album, tmp_path / "kept", overwrite=True) == 1
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(OutputError, match="not a folder of kept outputs"):
        keep_outputs(method, album, tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"


ESCAPES = ["../a.png", "/etc/a.png", "b/../../a.png", "..\\a.png", "C:a.png", ".", "..", ""]
UNFIT = ["b//a.png", "b/", "a\0.png", "x" * 300 + ".png", "\ud800.png"]


@pytest.mark.parametrize("name", [*ESCAPES, *UNFIT], ids=ascii)
def test_a_name_that_leads_out_is_refused_before_anything_is_done(
    tmp_path: Path, portraits: list[Picture], name: str
) -> None:
    inside = tmp_path / "deep" / "er"
    inside.mkdir(parents=True)
    method = make_method("fill")
    with pytest.raises(OutputError, match="cannot be kept"):
        keep_outputs(method, Album(["fine.png", name], portraits[:2]), inside / "kept")
    assert list(tmp_path.rglob("*")) == [tmp_path / "deep", inside]


def test_names_that_are_one_file_are_refused(tmp_path: Path, portraits: list[Picture]) -> None:
    for names in (["a.png", "A.PNG"], ["a", "a.png"], ["a.png", "a.png"]):
        with pytest.raises(OutputError, match="would be one file"):
            keep_outputs(make_method("fill"), Album(names, portraits[:2]), tmp_path / "kept")
    with pytest.raises(OutputError):
        keep_outputs(
            make_method("fill"), Album(["a.png", "a.png/b.png"], portraits[:2]), tmp_path / "kept"
        )
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_nothing(tmp_path: Path, portraits: list[Picture]) -> None:
    class Torn(Album):
        def picture(self, index: int) -> Picture:
            if index == 40:
                raise ImageError("'x.png' is damaged")
            return super().picture(0)

    torn = Torn([f"{i}.png" for i in range(50)], portraits * 10)
    with pytest.raises(ImageError, match="damaged"):
        keep_outputs(make_method("fill"), torn, tmp_path / "kept")
    assert list(tmp_path.iterdir()) == []


def test_originals_are_not_copied(tmp_path: Path, portraits: list[Picture]) -> None:
    with pytest.raises(ConfigError, match="would copy the originals"):
        keep_outputs(make_method("original"), Album(["a.png"], portraits[:1]), tmp_path / "kept")
    with pytest.raises(ConfigError, match="2 tracks for 1 originals"):
        keep_outputs(
            make_method("fill"), Album(["a.png"], portraits[:1]), tmp_path / "kept", tracks=[1, 2]
        )
    assert list(tmp_path.iterdir()) == []
