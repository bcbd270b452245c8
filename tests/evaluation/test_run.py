"""From originals and contenders to an evaluation, with judges that look at pixels."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import picture_judges
import pytest
from picture_judges import Pixels
from PIL import Image

from lreorg_fast.errors import ConfigError, LReorgError
from lreorg_fast.evaluation import contenders
from lreorg_fast.evaluation.answers import Answers
from lreorg_fast.evaluation.attackers import split_people
from lreorg_fast.evaluation.contenders import (
    FolderContender,
    HeldPictures,
    MethodContender,
    Part,
)
from lreorg_fast.evaluation.finished import Finished, FinishedMethods, remove_finished
from lreorg_fast.evaluation.folders import FolderCollection, open_collection
from lreorg_fast.evaluation.judging import Stage
from lreorg_fast.evaluation.measured import Evaluation, Measured
from lreorg_fast.evaluation.methods import Method, make_method
from lreorg_fast.evaluation.observing import Observer
from lreorg_fast.evaluation.protocol import Judges
from lreorg_fast.evaluation.run import EvaluationSettings, evaluate
from lreorg_fast.evaluation.trial import Trial

PEOPLE, PICTURES = 12, 3
QUICK = EvaluationSettings(attacks=False)


@pytest.fixture
def originals(tmp_path: Path) -> Path:
    """Person i in shade 10 i, some more or less."""
    for person in range(PEOPLE):
        for picture in range(PICTURES):
            shade = 20 * person + picture
            path = tmp_path / "in" / f"p{person:02d}" / f"{picture}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), (shade, shade, shade)).save(path)
    return tmp_path / "in"


def copied(root: Path, name: str, change: int) -> Path:
    for path in sorted((root / "in").rglob("*.png")):
        target = root / name / path.relative_to(root / "in")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).point(lambda value: (value + change) % 256).save(target)
    return root / name


@pytest.fixture
def collection(originals: Path) -> FolderCollection:
    return open_collection(originals)


class PersonJudge(Pixels):
    """Recognizes people by their shade; its embeddings are one axis per person."""

    def embed(self, pictures: Sequence[Any]) -> Any:
        self.shown += [int(picture[0, 0, 0]) for picture in pictures]
        rows = np.full((len(pictures), PEOPLE + 1), 1e-3)
        people = [min(int(picture[0, 0, 0]) // 20, PEOPLE) for picture in pictures]
        rows[np.arange(len(pictures)), people] = 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def person_judges(log: Path | None = None) -> Judges:
    if log is not None:
        (log / str(os.getpid())).touch()
    return picture_judges.make(PersonJudge())


def method(name: str) -> tuple[Method, None]:
    return make_method(name), None


def find(evaluation: Evaluation, name: str, metric: str, **where: str) -> Measured:
    (result,) = (m for m in evaluation.methods if m.name == name)
    found = result.find(metric, **where)
    assert found is not None, [m.metric for m in result.measured]
    return found


def value(evaluation: Evaluation, name: str, metric: str, **where: str) -> float:
    figure = find(evaluation, name, metric, **where).figure
    assert figure is not None
    return figure.value


def test_folders_and_methods_are_judged_alike(collection: FolderCollection, tmp_path: Path) -> None:
    same = FolderContender(collection, copied(tmp_path, "same", 0))
    other = FolderContender(collection, copied(tmp_path, "other", 100))
    ran = MethodContender(partial(method, "original"))
    done = evaluate(
        collection, [same, other, ran], Observer(person_judges), QUICK, command="lreorg evaluate x"
    )
    evaluation = done.evaluation
    assert [m.name for m in evaluation.methods] == ["same", "other", "original"]
    assert value(evaluation, "same", "rank_1", recognizer="pixels") == 1
    assert value(evaluation, "original", "rank_1", recognizer="pixels") == 1
    assert value(evaluation, "other", "rank_1", recognizer="pixels") < 0.1
    assert value(evaluation, "same", "feature_distance", convention="pixels") == pytest.approx(
        0, abs=1e-9
    )
    assert "attacks that learn were not asked for" in str(
        find(evaluation, "same", "parrot_rank_1").reason
    )
    assert (evaluation.data["pictures"], evaluation.data["subjects"]) == (36, 12)
    assert evaluation.run["command"] == "lreorg evaluate x"
    assert Evaluation.from_dict(evaluation.to_dict()) == evaluation


def test_too_few_pairs_name_the_rate_that_can_be_had(
    collection: FolderCollection, tmp_path: Path
) -> None:
    """36 pictures give 594 pairs of different people."""
    contender = FolderContender(collection, copied(tmp_path, "same", 0))
    evaluation = evaluate(collection, [contender], Observer(person_judges), QUICK).evaluation
    for entry in (
        find(evaluation, "same", "psr", recognizer="pixels", far="1e-3"),
        evaluation.judged[0],
    ):
        assert entry.figure is None
        assert "needs 10,000 impostor pairs" in str(entry.reason)
        assert "1.7e-02" in str(entry.reason)


def test_one_picture_per_person_says_what_cannot_be_computed(
    tmp_path: Path, originals: Path
) -> None:
    for path in originals.rglob("[12].png"):
        path.unlink()
    collection = open_collection(originals)
    contender = FolderContender(collection, copied(tmp_path, "same", 0))
    evaluation = evaluate(collection, [contender], Observer(person_judges)).evaluation
    for metric in ("similarity", "rank_1"):
        found = find(evaluation, "same", metric, recognizer="pixels")
        assert found.figure is None
        assert "second pictures" in str(found.reason)
    reason = str(find(evaluation, "same", "parrot_rank_1").reason)
    assert "20 people with two pictures or more" in reason
    assert "there are 0" in reason


def test_a_recognizer_that_fails_on_originals_gives_no_psr(tmp_path: Path) -> None:
    for person in range(150):
        for picture in range(2):
            path = tmp_path / "in" / f"{person}" / f"{picture}.png"
            path.parent.mkdir(parents=True) if not path.parent.exists() else None
            shade = np.random.default_rng([person, picture]).integers(0, 255)
            Image.new("RGB", (8, 8), (int(shade),) * 3).save(path)
    collection = open_collection(tmp_path / "in")
    contender = FolderContender(collection, copied(tmp_path, "same", 0))
    evaluation = evaluate(collection, [contender], Observer(picture_judges.make), QUICK).evaluation
    tar = evaluation.judged[0]
    assert tar.figure is not None
    assert tar.figure.value < 0.5
    psr = find(evaluation, "same", "psr", recognizer="pixels", far="1e-3")
    assert psr.figure is None
    assert f"accepts {tar.figure.value:.1%} of the pairs of originals" in str(psr.reason)


def test_samples_and_features_are_of_the_same_people(
    collection: FolderCollection, tmp_path: Path
) -> None:
    contender = FolderContender(collection, copied(tmp_path, "other", 7))
    settings = EvaluationSettings(attacks=False, samples=3, clustered=2)
    done = evaluate(collection, [contender], Observer(person_judges), settings)
    shades = {
        name: [None if p is None else int(p[0, 0, 0]) for p in pictures]
        for name, pictures in done.samples.items()
    }
    assert shades == {"original": [0, 20, 40], "other": [7, 27, 47]}
    assert done.people.tolist() == [0, 0, 0, 1, 1, 1]
    assert done.features["other"].shape == done.features["original"].shape == (6, PEOPLE + 1)


def test_what_does_not_fit_is_refused(collection: FolderCollection, tmp_path: Path) -> None:
    observer = Observer(person_judges)
    with pytest.raises(ConfigError, match="nothing is evaluated"):
        evaluate(collection, [], observer)
    one = FolderContender(collection, copied(tmp_path, "a/same", 0))
    two = FolderContender(collection, copied(tmp_path, "b/same", 0))
    with pytest.raises(ConfigError, match="two of the methods are called 'same'"):
        evaluate(collection, [one, two], observer)
    named = FolderContender(collection, copied(tmp_path, "original", 0))
    with pytest.raises(ConfigError, match="a folder of outputs is called 'original'"):
        evaluate(collection, [named], observer)
    with pytest.raises(ConfigError, match=r"no recognizer.*: ask for one"):
        evaluate(
            collection, [one], Observer(lambda: Judges((), missing={"recognizers": "ask for one"}))
        )
    with pytest.raises(ConfigError, match="paired with other originals"):
        one.outputs(open_collection(collection.root), lambda done, total: None)
    with pytest.raises(ConfigError, match="no keys"):
        one.restored(collection, lambda done, total: None)
    with pytest.raises(ConfigError, match="samples is 101"):
        EvaluationSettings(samples=101)


def test_nothing_seen_in_any_original_is_refused(tmp_path: Path) -> None:
    for i in range(2):  # PixelS sees nothing in shade 13
        path = tmp_path / "in" / f"{i}" / "x.png"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (8, 8), (13, 13, 13)).save(path)
    collection = open_collection(tmp_path / "in")
    contender = FolderContender(collection, copied(tmp_path, "out", 0))
    with pytest.raises(ConfigError, match="no recognizer sees a face in any original"):
        evaluate(collection, [contender], Observer(picture_judges.make))


def test_outputs_that_do_not_fit_into_memory_name_the_way_out(
    collection: FolderCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contenders, "MOST_HELD_BYTES", 20_000)
    contender = MethodContender(partial(method, "fill"))
    with pytest.raises(ConfigError, match="evaluate their folder"):
        contender.outputs(collection, lambda done, total: None)


# ---- resuming


def counted(trial: Trial) -> Iterator[Measured]:
    counted.asked.append(trial.contender.name)  # type: ignore[attr-defined]
    yield Measured("released", None, {}, "counted")


counted.asked = []  # type: ignore[attr-defined]


def test_a_resumed_run_does_not_repeat_what_is_finished(
    collection: FolderCollection, tmp_path: Path
) -> None:
    counted.asked.clear()  # type: ignore[attr-defined]
    first = FolderContender(collection, copied(tmp_path, "first", 0))
    second = FolderContender(collection, copied(tmp_path, "second", 3))

    @contextlib.contextmanager
    def interrupting(what: str) -> Iterator[Any]:
        if what == "second: judges":
            raise KeyboardInterrupt
        yield lambda done, total: None

    def run(stage: Stage | None = None) -> Any:
        judge = PersonJudge()
        with Answers(tmp_path / "cache") as answers:
            done = evaluate(
                collection,
                [first, second],
                Observer(partial(picture_judges.make, judge), answers),
                QUICK,
                measures=[counted],
                finished=FinishedMethods(tmp_path / "cache"),
                **({} if stage is None else {"stage": stage}),
            )
        return done, judge.shown

    with pytest.raises(KeyboardInterrupt):
        run(interrupting)
    done, shown = run()
    assert counted.asked == ["first", "second"]  # type: ignore[attr-defined]
    assert sorted(shown) == sorted({20 * p + i + 3 for p in range(12) for i in range(3)})
    again, shown = run()
    assert shown == []
    assert again.evaluation.methods == done.evaluation.methods
    for name in ("first", "second"):
        np.testing.assert_array_equal(again.samples[name], done.samples[name])
        np.testing.assert_allclose(again.features[name], done.features[name], atol=1e-7)
    # Another output: that method, and only that, is judged again.
    Image.new("RGB", (16, 16), (99, 99, 99)).save(tmp_path / "second" / "p00" / "0.png")
    _, shown = run()
    assert counted.asked == ["first", "second", "second"]  # type: ignore[attr-defined]
    assert shown == [99]
    assert all(p.stat().st_mode & 0o077 == 0 for p in (tmp_path / "cache").iterdir())
    remove_finished(tmp_path / "cache")
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["answers.sqlite"]


@pytest.mark.parametrize("damage", ["cut", "text", "shape", "base64", "metric", "list"])
def test_a_damaged_finished_method_is_done_again(tmp_path: Path, damage: str) -> None:
    from lreorg_fast.evaluation.measured import MethodResult, unavailable

    result = MethodResult("a", "A", "d", "g", "c", tuple(unavailable(["psr"], "why", far="1e-3")))
    picture = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    store = FinishedMethods(tmp_path)
    store.put("00ff", Finished(result, [picture, None], np.array([[1.0, np.nan]])))
    back = store.get("00ff")
    assert back is not None
    assert back.result == result
    np.testing.assert_array_equal(back.samples[0], picture)
    assert back.samples[1] is None
    np.testing.assert_array_equal(back.features, [[1.0, np.nan]])
    (path,) = tmp_path.iterdir()
    text = path.read_text()
    path.write_text(
        {
            "cut": text[:-20],
            "text": "hello",
            "list": "[]",
            "shape": text.replace("[4, 4, 3]", "[4, 40, 3]"),
            "base64": text.replace('"data": "', '"data": "!'),
            "metric": text.replace('"psr"', '"unheard of"'),
        }[damage]
    )
    assert store.get("00ff") is None
    assert store.get("11") is None


# ---- several at once


def test_methods_in_workers_give_what_one_process_gives(
    collection: FolderCollection, tmp_path: Path
) -> None:
    (tmp_path / "log").mkdir()
    ran = [MethodContender(partial(method, name)) for name in ("original", "blur", "fill")]
    folder = FolderContender(collection, copied(tmp_path, "other", 100))
    alone = evaluate(collection, [*ran, folder], Observer(person_judges), QUICK)
    make = partial(person_judges, tmp_path / "log")
    with Observer(make, workers=2) as observer:
        together = evaluate(collection, [*ran, folder], observer, QUICK)
    assert together.evaluation.methods == alone.evaluation.methods
    assert list(together.samples) == ["original", "blur", "fill", "other"]
    processes = {path.name for path in (tmp_path / "log").iterdir()} - {str(os.getpid())}
    assert len(processes) >= 2


def dying() -> tuple[Method, None]:
    if os.environ.get("LREORG_TEST_PARENT") != str(os.getpid()):
        os._exit(9)
    return make_method("blur"), None


def test_a_worker_that_dies_is_one_sentence(
    collection: FolderCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LREORG_TEST_PARENT", str(os.getpid()))
    ran = [MethodContender(partial(method, "original")), MethodContender(dying)]
    with (
        Observer(person_judges, workers=2) as observer,
        pytest.raises(LReorgError, match="--resume and fewer --workers"),
    ):
        evaluate(collection, ran, observer, QUICK)


# ---- parts


def test_people_who_are_learnt_from_are_not_attacked() -> None:
    subjects = np.repeat(np.arange(60), 3)
    subjects = np.concatenate([subjects, [60, 61, 62]])  # of one picture each
    split = split_people(subjects)
    assert not isinstance(split, str)
    known, rest = split
    assert len(known) == 90
    assert sorted([*known, *rest]) == list(range(183))
    assert not set(subjects[known]) & set(subjects[rest])
    assert {60, 61, 62} <= set(subjects[rest])
    assert "there are 19" in split_people(np.repeat(np.arange(19), 2))
    large = split_people(np.repeat(np.arange(1000), 10))
    assert not isinstance(large, str)
    assert len(large[0]) == 1000


def test_a_part_is_a_collection_of_its_own(tmp_path: Path, originals: Path) -> None:
    table = tmp_path / "t.csv"
    names = [p.relative_to(originals).as_posix() for p in sorted(originals.rglob("*.png"))]
    rows = [f"{name},{name[:3]},{i % 2},{'ab'[i % 2]}\n" for i, name in enumerate(names)]
    table.write_text("name,person,smiling,kind\n" + "".join(rows))
    whole = open_collection(originals, table)
    part = Part(whole, np.array([5, 0]))
    assert list(part.names) == [whole.names[5], whole.names[0]]
    assert part.subjects.tolist() == [1, 0]
    assert part.attributes["smiling"].tolist() == [True, False]
    assert part.groups == {"kind": ["b", "a"]}
    assert part.fingerprint(0) == whole.fingerprint(5)
    np.testing.assert_array_equal(part.picture(0), whole.picture(5))


def test_held_pictures_are_known_by_size_and_pixels() -> None:
    flat, square = np.zeros((2, 8, 3), np.uint8), np.zeros((4, 4, 3), np.uint8)
    held = HeldPictures([flat, square, None, flat.copy()])
    prints = [held.fingerprint(i) for i in range(len(held))]
    assert len(set(prints)) == 3
    assert prints[0] == prints[3]
    assert held.picture(2) is None
