"""Named people in videos: one draw over tracks, files and runs, and lines that fit nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stamped import Film, TrueDetector

import lreorg_fast as lf
from lreorg_fast.errors import ConfigError, LReorgError, VideoError
from lreorg_fast.privacy import Ledger, LedgerFile, PeopleFile, Pseudonyms, Subjects
from lreorg_fast.scene import SceneSettings
from lreorg_fast.video import VideoReport, VideoSettings, anonymize_video
from lreorg_fast.video.report import PERSONS

SETTINGS = VideoSettings(segment_frames=10)


class Studio:
    """Videos, a table of their people, and what was drawn for whom."""

    def __init__(self, folder: Path, bundle: Path) -> None:
        self.folder, self.bundle = folder, bundle
        self.drawn: list[tuple[str, tuple[float, ...]]] = []

    def subjects(self, ledger: Ledger, table: str | None, **more: Any) -> Subjects:
        if table is not None:
            (self.folder / "people.csv").write_text(f"file,person,x,y,seconds\n{table}")
            more["people"] = PeopleFile(self.folder / "people.csv")
        return Subjects(ledger, **more)

    def run(
        self, film: Film, name: str, subjects: Subjects, mechanism: str = "window-rr", **how: Any
    ) -> VideoReport:
        source = self.folder / f"{name}.mp4"
        if not source.exists():
            film.write(source)
        anonymizer = lf.Anonymizer.load(self.bundle, ledger=subjects.ledger)
        watched = subjects.ledger.held

        def held(track: Any, draw: Any, epsilon: float, keyword: str = "identity") -> Any:
            found = watched(track, draw, epsilon, keyword)
            self.drawn.append((str(track), tuple(found.feature)))
            return found

        subjects.ledger.held = held  # type: ignore[method-assign]
        try:
            return anonymize_video(
                anonymizer,
                TrueDetector(film, how.pop("change", None)),
                source,
                self.folder / f"{name}-out.mp4",
                scene=SceneSettings(mechanism=mechanism),
                video=SETTINGS,
                subjects=subjects,
                **how,
            )
        finally:
            subjects.ledger.held = watched  # type: ignore[method-assign]

    def features(self, track: str) -> set[tuple[float, ...]]:
        """The different draws that a track showed."""
        return {feature for name, feature in self.drawn if name == track}


@pytest.fixture
def studio(tmp_path: Path, bundle: Path) -> Studio:
    return Studio(tmp_path, bundle)


def line(film: Film, name: str, person: str, frame: int, face: int) -> str:
    """A line about the truth's face in a frame."""
    box = film.known(frame)[face].box
    x, y = (box[:2] + box[2:]) / 2
    return f"{name}.mp4,{person},{x:.1f},{y:.1f},{frame * 1001 / 30000:.3f}\n"


def gone(first: int, last: int) -> Any:
    """A detector's change: nobody is found for a second, so that tracks are split."""
    return lambda number, found: [] if first <= number < last else found


def test_a_person_is_one_over_two_videos_and_others_are_their_own(studio: Studio) -> None:
    films = [Film(16), Film(16, seed=1)]
    table = line(films[0], "a", "Ann", 8, 0) + line(films[1], "b", "Ann", 3, 1)
    ledger = Ledger()
    subjects = studio.subjects(ledger, table)
    reports = [studio.run(film, name, subjects) for film, name in zip(films, "ab", strict=True)]
    names = [[track.track for track in report.tracks] for report in reports]
    (ann,) = set(names[0]) & set(names[1])
    assert len({*names[0], *names[1]}) == 3
    assert len(studio.features(ann)) == 1
    assert all(report.complete for report in reports)
    totals = ledger.report()["tracks"]
    assert totals == dict.fromkeys({*names[0], *names[1]}, 1.0)
    assert "each face that nobody named" in reports[0].persons.lower()
    assert "Ann" not in str([report.to_dict() for report in reports])


def test_a_pseudonym_is_one_face_in_every_run(studio: Studio, tmp_path: Path) -> None:
    film = Film(16)
    keys = Pseudonyms(tmp_path / "keys", create=True)
    table = line(film, "a", "Ann", 8, 0) + line(film, "b", "Ann", 8, 0)
    reports = [
        studio.run(film, name, studio.subjects(Ledger(), table, pseudonyms=keys), "uniform")
        for name in "ab"
    ]
    track = Pseudonyms(tmp_path / "keys").people["Ann"]
    assert all(track in {t.track for t in report.tracks} for report in reports)
    assert len(studio.features(track)) == 1
    assert all(report.ledger["largest"] == 0.0 for report in reports)
    with pytest.raises(LReorgError, match="looks at the face"):
        studio.run(film, "a", studio.subjects(Ledger(), table, pseudonyms=keys))


def test_one_person_named_for_a_whole_video_joins_their_tracks(studio: Studio) -> None:
    film = Film(56, ("crossing",))
    subjects = studio.subjects(Ledger(), None, person=lambda path: "Ann")
    report = studio.run(film, "a", subjects, change=gone(8, 48))
    assert len(report.tracks) == 2
    (name,) = {track.track for track in report.tracks}
    assert len(studio.features(name)) == 1
    assert subjects.ledger.report()["tracks"] == {name: 1.0}
    assert "counted together" in report.persons


def test_two_faces_at_one_time_are_not_one_person(studio: Studio) -> None:
    film = Film(16)
    with pytest.raises(VideoError, match="--people"):
        studio.run(film, "a", studio.subjects(Ledger(), None, person=lambda path: "Ann"))
    table = line(film, "a", "Ann", 3, 0) + line(film, "a", "Ann", 3, 1)
    with pytest.raises(VideoError, match="two of their faces"):
        studio.run(film, "a", studio.subjects(Ledger(), table))
    assert studio.drawn == []
    assert {path.name for path in studio.folder.iterdir()} == {"a.mp4", "people.csv"}


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("a.mp4,Ann,1,1,0.2\n", "no face is found there"),
        ("a.mp4,Ann,1,1,9\n", "ends at 0.53 s"),
        ("a.mp4,Ann,1,1,\n", "add the seconds"),
    ],
)
def test_a_line_without_its_face_gives_no_video(studio: Studio, table: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        studio.run(Film(16), "a", studio.subjects(Ledger(), table))
    assert not (studio.folder / "a-out.mp4").exists()
    assert studio.drawn == []


def test_lines_that_contradict_each_other_are_errors(studio: Studio) -> None:
    film = Film(16)
    table = line(film, "a", "Ann", 8, 0) + line(film, "a", "Ben", 8, 0)
    with pytest.raises(ConfigError, match="another person"):
        studio.run(film, "a", studio.subjects(Ledger(), table))


def test_a_corrected_table_goes_on_with_what_was_found(studio: Studio) -> None:
    film = Film(16)
    with pytest.raises(ConfigError):
        studio.run(film, "a", studio.subjects(Ledger(), "a.mp4,Ann,1,1,0.2\n"))
    calls: list[int] = []

    def watched(number: int, found: Any) -> Any:
        calls.append(number)
        return found

    table = line(film, "a", "Ann", 8, 0)
    report = studio.run(film, "a", studio.subjects(Ledger(), table), change=watched, resume=True)
    assert report.complete
    assert max(calls) < 6  # a sample of the result, for the statistics


# ---- a ledger file


class Stopped(Exception):
    """Stands for a crash."""


def stop(stage: str, done: int, total: int | None) -> None:
    if (stage, done) == ("edit", 15):
        raise Stopped


def test_a_ledger_file_counts_a_video_once_over_resume_and_again_in_the_next_run(
    studio: Studio, tmp_path: Path
) -> None:
    film, path = Film(24), tmp_path / "ledger"
    with pytest.raises(Stopped):
        studio.run(film, "a", Subjects(LedgerFile(path, 1.0)), progress=stop)
    report = studio.run(film, "a", Subjects(LedgerFile(path)), resume=True)
    assert report.resumed == 1
    assert report.complete
    assert report.persons == PERSONS
    names = [track.track for track in report.tracks]
    assert all(name.startswith("video-") for name in names)
    assert {name: LedgerFile(path).total(name) for name in names} == dict.fromkeys(names, 1.0)
    assert all(len(studio.features(name)) == 1 for name in names)
    # The same content once more: the budget of its people is spent, so they are filled.
    again = studio.run(film, "a", Subjects(LedgerFile(path)), overwrite=True)
    assert [track.track for track in again.tracks] == names
    assert again.counts == {"replaced": 0, "filled": again.faces, "pixelated": 0}
    assert not again.complete
    assert all("budget" in reason for track in again.tracks for reason in track.reasons)
    assert {name: LedgerFile(path).total(name) for name in names} == dict.fromkeys(names, 1.0)


def test_a_person_in_a_ledger_file_pays_once_for_all_videos_of_a_run(
    studio: Studio, tmp_path: Path
) -> None:
    film, path = Film(16, ("crossing",)), tmp_path / "ledger"
    ledger = LedgerFile(path, 2.0)
    subjects = studio.subjects(ledger, "a.mp4,Ann,,,\nb.mp4,Ann,,,\n")
    for name in "ab":
        studio.run(film, name, subjects)
    ann = ledger.track_of("person", b"Ann")
    assert LedgerFile(path).total(ann) == 1.0
    assert len(studio.features(ann)) == 1
    next_run = studio.subjects(LedgerFile(path), "a.mp4,Ann,,,\nb.mp4,Ann,,,\n")
    assert studio.run(film, "a", next_run, overwrite=True).complete
    assert LedgerFile(path).total(ann) == 2.0
    last = studio.subjects(LedgerFile(path), "a.mp4,Ann,,,\nb.mp4,Ann,,,\n")
    assert studio.run(film, "a", last, overwrite=True).counts["replaced"] == 0


def test_named_people_of_one_run_only_do_not_go_on(studio: Studio, tmp_path: Path) -> None:
    film = Film(24, ("crossing",))
    with pytest.raises(Stopped):
        studio.run(film, "a", studio.subjects(Ledger(), "a.mp4,Ann,,,\n"), progress=stop)
    with pytest.raises(ConfigError, match="--ledger or --pseudonyms"):
        studio.run(film, "a", studio.subjects(Ledger(), "a.mp4,Ann,,,\n"), resume=True)
    with pytest.raises(ConfigError, match="other people"):
        studio.run(film, "a", Subjects(Ledger()), resume=True)


def test_a_resumed_person_keeps_the_face_of_the_interrupted_run(
    studio: Studio, tmp_path: Path
) -> None:
    film, path = Film(24, ("crossing",)), tmp_path / "ledger"
    table = "a.mp4,Ann,,,\nb.mp4,Ann,,,\n"
    with pytest.raises(Stopped):
        studio.run(film, "a", studio.subjects(LedgerFile(path, 9.0), table), progress=stop)
    resumed = studio.subjects(LedgerFile(path), table)
    studio.run(film, "a", resumed, resume=True)
    studio.run(film, "b", resumed)
    ann = resumed.ledger.track_of("person", b"Ann")  # type: ignore[attr-defined]
    assert len(studio.features(ann)) == 1
    assert LedgerFile(path).total(ann) == 1.0


def test_a_resumed_person_who_has_another_face_by_now_is_refused(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film, path = Film(24, ("crossing",)), tmp_path / "ledger"
    table = "a.mp4,Ann,,,\nb.mp4,Ann,,,\n"
    with pytest.raises(Stopped):
        studio.run(film, "a", studio.subjects(LedgerFile(path, 9.0), table), progress=stop)
    other = studio.subjects(LedgerFile(path), table)
    studio.run(film, "b", other)
    ann = other.ledger.track_of("person", b"Ann")  # type: ignore[attr-defined]
    held = other.ledger.drawn(ann)
    if len(studio.features(ann)) == 1:  # by chance the same draw
        drawn = held["identity"]
        changed = {
            "identity": type(drawn)(
                np.roll(drawn.feature, 1),
                drawn.group,
                drawn.epsilon,
                drawn.mechanism,
                drawn.guarantee,
            )
        }
        other.ledger.resume(ann, changed)
    with pytest.raises(VideoError, match="a run of its own"):
        studio.run(film, "a", other, resume=True)
