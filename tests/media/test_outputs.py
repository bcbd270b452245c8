from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lreorg_fast.errors import ConfigError, OutputError
from lreorg_fast.media import OutputPlan, Wanted, plan_outputs
from lreorg_fast.media.outputs import natural_key


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def caseless(path: Path) -> str:
    """The canonical caseless form of Unicode (D145): what such a file system compares."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", str(path)).casefold())


def assert_safe(plan: OutputPlan) -> None:
    sources = [path for path, _ in plan]
    targets = [Path(os.path.realpath(path)) for _, path in plan]
    names = {caseless(path) for path in targets}
    assert len(names) == len(targets), "two targets are one file where case is ignored"
    assert not names & {caseless(Path(os.path.realpath(path))) for path in sources}
    folders = {caseless(folder) for path in targets for folder in path.parents}
    assert not names & folders, "one target is a folder of another"


def test_a_file_goes_beside_itself(tmp_path: Path) -> None:
    touch(tmp_path / "a.png")
    assert list(plan_outputs([tmp_path / "a.png"])) == [
        (tmp_path / "a.png", tmp_path / "a_anonymized.png")
    ]
    plan = plan_outputs([tmp_path / "a.png"], suffix="-new")
    assert [target.name for _, target in plan] == ["a-new.png"]


def test_a_folder_is_mirrored_in_natural_order(tmp_path: Path) -> None:
    names = ["a10.png", "a2.jpg", "a1.webp", "sub2/x.png", "sub10/x.png", "sub2/deep/y.tif"]
    touch(*(tmp_path / "in" / name for name in names))
    plan = plan_outputs([tmp_path / "in"], tmp_path / "out")
    assert [str(target.relative_to(tmp_path / "out")) for _, target in plan] == [
        "a1.webp", "a2.jpg", "a10.png", "sub2/x.png", "sub2/deep/y.tif", "sub10/x.png",
    ]  # fmt: skip
    assert [str(source.relative_to(tmp_path / "in")) for source, _ in plan] == [
        str(target.relative_to(tmp_path / "out")) for _, target in plan
    ]
    plan.create_folders()
    assert all(target.parent.is_dir() for _, target in plan)


def test_a_folder_without_output_goes_beside_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path / "in.v2" / "sub" / "a.png")
    wanted = tmp_path / "in.v2_anonymized" / "sub" / "a.png"
    assert [target for _, target in plan_outputs([tmp_path / "in.v2"])] == [wanted]
    monkeypatch.chdir(tmp_path / "in.v2")
    assert [target for _, target in plan_outputs(["."])] == [wanted]


def test_several_inputs_do_not_meet(tmp_path: Path) -> None:
    touch(*(tmp_path / name for name in ("x/d/a.png", "y/d/a.png", "a.png", "z/a.png", "a.jpg")))
    inputs = [tmp_path / name for name in ("x/d", "y/d", "a.png", "z/a.png", "a.jpg")]
    plan = plan_outputs(inputs, tmp_path / "out")
    assert_safe(plan)
    assert [str(target.relative_to(tmp_path / "out")) for _, target in plan] == [
        "d/a.png", "d_anonymized/a.png", "a.png", "a_anonymized.png", "a.jpg",
    ]  # fmt: skip


LOOK_ALIKES = [("a.png", "A.png"), ("a.png", "a.PNG"), ("\u00e9.png", "e\u0301.png"),
               ("\u00c9.png", "e\u0301.png"), ("stra\u00dfe.png", "STRASSE.png")]  # fmt: skip


@pytest.mark.parametrize(("first", "second"), LOOK_ALIKES)
def test_names_that_some_file_systems_take_for_one(tmp_path: Path, first: str, second: str) -> None:
    touch(tmp_path / "in" / first, tmp_path / "in" / second)
    if len(os.listdir(tmp_path / "in")) == 1:
        pytest.skip("this file system takes them for one")
    plan = plan_outputs([tmp_path / "in"], tmp_path / "out")
    assert len(plan) == 2
    assert_safe(plan)
    # The same folder under two spellings, and as folders instead of files.
    (tmp_path / "other").mkdir()
    spellings = [tmp_path / "in" / first, tmp_path / "other" / ".." / "in" / second]
    assert_safe(plan_outputs(spellings))
    touch(tmp_path / "up" / first / "x.png", tmp_path / "up" / second / "x.png")
    plan = plan_outputs([tmp_path / "up"], tmp_path / "out")
    assert len(plan) == 2
    assert_safe(plan)


def test_the_sources_are_never_targets(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "a.png", tmp_path / "in" / "a_anonymized.png")
    for output in (tmp_path / "in", tmp_path / "in" / ".." / "in", None):
        inputs = sorted((tmp_path / "in").iterdir()) if output is None else [tmp_path / "in"]
        plan = plan_outputs(inputs, output)
        assert len(plan) == 2
        assert_safe(plan)


def test_an_output_folder_inside_the_input_is_not_read_again(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "a.png", tmp_path / "in" / "out" / "a.png")
    plan = plan_outputs([tmp_path / "in"], tmp_path / "in" / "out")
    assert list(plan) == [(tmp_path / "in" / "a.png", tmp_path / "in" / "out" / "a.png")]
    assert [(skip.path.name, skip.failure) for skip in plan.skipped] == [("out", False)]


def test_everything_left_out_is_listed_with_its_reason(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    touch(folder / "a.png", folder / "notes.txt", tmp_path / "secret" / "b.png", tmp_path / "c.mp4")
    (folder / "link.png").symlink_to(tmp_path / "secret" / "b.png")
    (folder / "linked").symlink_to(tmp_path / "secret")
    (folder / "dangling.png").symlink_to(tmp_path / "nowhere")
    os.mkfifo(folder / "pipe.png")
    inputs = [
        folder,
        tmp_path / "missing",
        tmp_path / "c.mp4",
        folder / "a.png",
        folder / "link.png",
    ]
    plan = plan_outputs(inputs, tmp_path / "out")
    assert [source.name for source, _ in plan] == ["a.png"]
    left_out = [(skip.path.name, skip.failure) for skip in plan.skipped]
    assert left_out == [
        ("dangling.png", True), ("link.png", True), ("linked", True),
        ("notes.txt", False), ("pipe.png", True),
        ("missing", True), ("c.mp4", True), ("a.png", False), ("link.png", True),
    ]  # fmt: skip
    assert all(skip.reason and "\n" not in skip.reason for skip in plan.skipped)


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    touch(tmp_path / "in" / "sub" / "a.png", tmp_path / "in" / "b.png")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").symlink_to(tmp_path / "elsewhere")
    plan = plan_outputs([tmp_path / "in"], tmp_path / "out")
    assert [target for _, target in plan] == [tmp_path / "out" / "b.png"]
    assert [skip.path for skip in plan.skipped] == [tmp_path / "in" / "sub" / "a.png"]

    (tmp_path / "in_anonymized").symlink_to(tmp_path / "elsewhere")
    assert len(plan_outputs([tmp_path / "in"])) == 0
    # The folder that the user names may be a link: that is a choice and not an escape.
    (tmp_path / "chosen").symlink_to(tmp_path / "elsewhere")
    assert len(plan_outputs([tmp_path / "in"], tmp_path / "chosen")) == 2


@pytest.mark.parametrize(
    "name", ["../up.png", "/etc/passwd", "a/../../b.png", "nul\0.png", "", ".", "..", "~", "-"]
)
def test_hostile_inputs_write_nowhere_else(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work" / "here"
    touch(work / "a.png", tmp_path / "work" / "up.png")
    (work / "a").mkdir()
    monkeypatch.chdir(work)
    plan = plan_outputs([name], tmp_path / "out")
    assert_safe(plan)
    for _, target in plan:
        assert Path(os.path.realpath(target)).is_relative_to(tmp_path / "out")


@pytest.mark.parametrize("suffix", ["", "/x", "a/../b", "nul\0", " ", "\\x"])
def test_a_suffix_must_be_part_of_a_name(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(ConfigError, match="suffix"):
        plan_outputs([tmp_path], suffix=suffix)


def test_the_output_must_be_a_folder(tmp_path: Path) -> None:
    touch(tmp_path / "a.png", tmp_path / "file")
    with pytest.raises(OutputError, match="not a folder"):
        plan_outputs([tmp_path / "a.png"], tmp_path / "file")
    plan = plan_outputs([tmp_path / "a.png"], tmp_path / "out")
    touch(tmp_path / "out")
    with pytest.raises(OutputError, match="cannot create the folder"):
        plan.create_folders()


def test_very_deep_folders(tmp_path: Path) -> None:
    here = tmp_path / "in"
    for _ in range(60):
        here = here / "d"
    touch(here / "a.png")
    [(source, target)] = plan_outputs([tmp_path / "in"], tmp_path / "out")
    assert target.relative_to(tmp_path / "out") == source.relative_to(tmp_path / "in")


# Few letters and many look-alikes, so that collisions are the rule and not the exception.
_letters = st.sampled_from(
    ["a", "A", "\u00e9", "e\u0301", "\u00c9", "_anonymized", "_2", ".", "1", "\u00df", "ss"]
)
_stems = st.lists(_letters, min_size=1, max_size=3).map("".join)
_extensions = st.sampled_from([".png", ".PNG", ".jpg", ".Jpg", ".tiff"])
_files = st.tuples(_stems, _extensions).map("".join)
_paths = st.lists(st.one_of(_stems, _files), max_size=2).map("/".join)


@given(
    entries=st.lists(st.tuples(_paths, _files), min_size=1, max_size=8),
    inputs=st.sampled_from([["."], ["x", "y"], ["y", "x/"], [".", "x"]]),
    output=st.sampled_from([None, "out", ".", "x"]),
)
def test_targets_never_collide(
    entries: list[tuple[str, str]],
    inputs: list[str],
    output: str | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    root = tmp_path_factory.mktemp("names") / "in"
    for half, (folder, name) in enumerate(entries):
        path = root / ("x" if half % 2 else "y") / folder / name
        try:
            touch(path)
        except OSError:  # a folder of that name is there, or "." and ".." as names
            continue
    (root / "x").mkdir(parents=True, exist_ok=True)
    pictures = [
        path
        for path in root.rglob("*")
        if path.is_file() and path.suffix.lower() in (".png", ".jpg", ".tiff")
    ]
    asked = [
        path for path in pictures if any(path.is_relative_to(root / entry) for entry in inputs)
    ]
    plan = plan_outputs(
        [root / entry for entry in inputs], None if output is None else root / output
    )
    assert_safe(plan)
    done = {path for path, _ in plan} | {skip.path for skip in plan.skipped}
    covered = {path for path in asked if path in done or done & set(path.parents)}
    assert covered == set(asked), "a picture is neither planned nor listed"
    plan.create_folders()
    for _, target in plan:
        assert not target.exists()
        target.touch()


@given(
    stem=st.text(
        st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=60
    )
)
def test_long_and_strange_names_stay_writable(
    stem: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("long")
    while len(os.fsencode(stem)) > 251:
        stem = stem[:-1]
    source = folder / (stem + "." * (251 - len(os.fsencode(stem))) + ".png")
    touch(source)
    [(_, target)] = plan_outputs([source])
    assert target.parent == folder
    touch(target)
    assert len(list(folder.iterdir())) == 2


@given(st.lists(st.integers(0, 2000), min_size=2, max_size=8))
def test_numbers_in_names_count_as_numbers(numbers: list[int]) -> None:
    names = [f"frame{number}.png" for number in numbers]
    assert sorted(names, key=natural_key) == [f"frame{number}.png" for number in sorted(numbers)]


VIDEO = b"\x00\x00\x00\x18ftypisom" + bytes(200)


def test_what_phones_write_is_known_by_its_content(tmp_path: Path) -> None:
    contents = {
        "a.mp4": VIDEO,
        "b.jpg": VIDEO,
        "c": b"\x1a\x45\xdf\xa3" + bytes(100),
        "d.heic": b"\x00\x00\x00\x18ftypheic" + bytes(100),
        "e.m4a": b"\x00\x00\x00\x18ftypM4A " + bytes(100),
        "f.ogg": b"OggS" + bytes(24) + b"OpusHead" + bytes(50),
        "g.ogv": b"OggS" + bytes(24) + b"\x80theora" + bytes(50),
    }
    folder = tmp_path / "in"
    folder.mkdir()
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    plan = plan_outputs([folder], tmp_path / "out")
    assert [(source.name, target.name) for source, target in plan] == [
        ("a.mp4", "a.mp4"), ("b.jpg", "b.mp4"), ("c", "c.mkv"), ("g.ogv", "g.mkv"),
    ]  # fmt: skip
    assert {path.name for path in plan.videos} == {"a.mp4", "b.jpg", "c", "g.ogv"}
    assert [(s.path.name, s.failure) for s in plan.skipped] == [
        ("d.heic", True), ("e.m4a", False), ("f.ogg", False),
    ]  # fmt: skip


def test_patterns_leave_files_out(tmp_path: Path) -> None:
    names = ["a.png", "b.JPG", "day1/c.png", "day1/d.jpg", "day2/[x].png"]
    touch(*(tmp_path / "in" / name for name in names))

    def done(*patterns: tuple[str, ...]) -> list[str]:
        plan = plan_outputs([tmp_path / "in"], tmp_path / "out", wanted=Wanted(*patterns))
        assert len(plan) + len(plan.skipped) == len(names)
        assert not any(skipped.failure for skipped in plan.skipped)
        return [str(source.relative_to(tmp_path / "in")) for source, _ in plan]

    assert done() == names
    assert done(("*.jpg",)) == ["b.JPG", "day1/d.jpg"]
    assert done((), ("*.jpg", "day2/*")) == ["a.png", "day1/c.png"]
    assert done(("day1/*",), ("c.*",)) == ["day1/d.jpg"]
    assert done(("[[]x].png",)) == ["day2/[x].png"]
