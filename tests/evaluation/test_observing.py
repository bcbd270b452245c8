"""Pictures before judges: the same answers however many workers, from the cache or not."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import picture_judges
import pytest
from picture_judges import DIM, Pixels, embedding

from lreorg_fast.errors import ConfigError, ImageError, LReorgError
from lreorg_fast.evaluation import observing
from lreorg_fast.evaluation.answers import Answers
from lreorg_fast.evaluation.observing import Observer
from lreorg_fast.evaluation.protocol import Observed
from lreorg_fast.media.pictures import Picture


class Shades:
    """Pictures in one shade each; None is no picture; counts what was read."""

    def __init__(self, shades: Sequence[int | None], size: int = 4) -> None:
        self.shades, self.size = list(shades), size
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.shades)

    def picture(self, index: int) -> Picture | None:
        self.read.append(index)
        shade = self.shades[index]
        if shade is None:
            return None
        if shade < 0:
            raise ImageError(f"picture {index} is damaged")
        return np.full((self.size, self.size, 3), shade, np.uint8)

    def fingerprint(self, index: int) -> str:
        return f"shade {self.shades[index]}"


@pytest.fixture
def answers(tmp_path: Path) -> Iterator[Answers]:
    with Answers(tmp_path / "cache") as opened:
        yield opened


def same(first: Observed, second: Observed) -> None:
    np.testing.assert_array_equal(first.released, second.released)
    np.testing.assert_array_equal(first.found, second.found)
    np.testing.assert_array_equal(first.attributes, second.attributes)
    np.testing.assert_array_equal(first.landmarks, second.landmarks)
    np.testing.assert_array_equal(first.embeddings["pixels"], second.embeddings["pixels"])
    for mine, theirs in zip(first.statistics["pixels"], second.statistics["pixels"], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12)


def test_everything_that_judges_say_is_in_its_place() -> None:
    shades = [5, None, 13, 200, 201]
    seen = Observer(picture_judges.make).observe(Shades(shades))
    assert seen.released.tolist() == [True, False, True, True, True]
    assert seen.found.tolist() == [True, False, False, True, True]
    assert seen.attributes is not None
    assert seen.landmarks is not None
    assert seen.attributes.tolist()[3:] == [[True, False], [True, True]]
    assert not seen.attributes[1].any()
    expected = embedding(np.full((1, 1, 3), 200, np.uint8))
    np.testing.assert_allclose(seen.embeddings["pixels"][3], expected, atol=1e-7)
    assert np.isnan(seen.embeddings["pixels"][[1, 2]]).all()
    assert np.isnan(seen.landmarks[[1, 2]]).all()
    assert (seen.landmarks[4] == 201).all()
    mean, covariance, n = seen.statistics["pixels"]
    rows = np.array([embedding(np.full((1, 1, 3), s, np.uint8))[:3] for s in (5, 13, 200, 201)])
    assert n == 4
    np.testing.assert_allclose(mean, rows.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(covariance, np.cov(rows.T), atol=1e-6)


def test_judges_that_are_not_there_leave_their_places_empty() -> None:
    seen = Observer(picture_judges.only_a_recognizer).observe(Shades([5, None]))
    assert seen.attributes is None
    assert seen.landmarks is None
    assert not seen.statistics
    assert seen.found.tolist() == seen.released.tolist() == [True, False]


def test_nothing_released_is_still_in_shape() -> None:
    seen = Observer(picture_judges.make).observe(Shades([None, None]))
    assert not seen.released.any()
    assert not seen.found.any()
    assert np.isnan(seen.embeddings["pixels"]).all()
    assert not seen.statistics
    assert seen.attributes is not None
    assert seen.attributes.shape == (2, 2)


@pytest.mark.parametrize("block", [1, 3, 64])
def test_blocks_do_not_change_anything(block: int) -> None:
    shades = [*range(20), None, 200]
    whole = Observer(picture_judges.make).observe(Shades(shades))
    same(whole, Observer(picture_judges.make, block=block).observe(Shades(shades)))


def test_workers_and_cache_do_not_change_anything(tmp_path: Path) -> None:
    shades = [*range(20), None, 200]
    whole = Observer(picture_judges.make).observe(Shades(shades))
    (tmp_path / "log").mkdir()
    make = picture_judges.noted_in(tmp_path / "log")
    with Answers(tmp_path / "cache") as answers, Observer(make, answers, 2, 4) as observer:
        steps: list[tuple[int, int]] = []
        same(whole, observer.observe(Shades(shades), lambda *step: steps.append(step)))
        assert steps[-1] == (22, 22)
        assert [done for done, _ in steps] == [4, 8, 12, 16, 20, 22]
        again = Shades(shades)
        same(whole, observer.observe(again))
        assert again.read == [20]  # only the one without a picture is looked for again
    processes = {p.name for p in (tmp_path / "log").iterdir()}
    assert len(processes - {str(os.getpid())}) == 2


def test_only_what_changed_is_asked_again(answers: Answers) -> None:
    judge = Pixels()
    observer = Observer(partial(picture_judges.make, judge), answers)
    observer.observe(Shades([1, 2, 3]))
    judge.shown.clear()
    changed = Shades([1, 9, 3, 4])
    seen = observer.observe(changed)
    assert judge.shown == [9, 4]
    assert changed.read == [1, 3]
    same(seen, Observer(picture_judges.make).observe(Shades([1, 9, 3, 4])))


def test_other_weights_are_asked_again(answers: Answers) -> None:
    Observer(picture_judges.make, answers).observe(Shades([1, 2]))
    judge = Pixels("other weights")
    Observer(partial(picture_judges.make, judge), answers).observe(Shades([1, 2]))
    assert judge.shown == [1, 2]


def test_an_interrupted_run_keeps_what_was_answered(tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done >= 4:
            raise KeyboardInterrupt

    shades = list(range(10))
    with Answers(tmp_path / "c") as answers, pytest.raises(KeyboardInterrupt):
        Observer(picture_judges.make, answers, block=2).observe(Shades(shades), interrupt)
    rest = Shades(shades)
    with Answers(tmp_path / "c") as answers:
        seen = Observer(picture_judges.make, answers, block=2).observe(rest)
    assert rest.read == [4, 5, 6, 7, 8, 9]
    same(seen, Observer(picture_judges.make).observe(Shades(shades)))


def test_a_damaged_picture_is_an_error_and_the_rest_is_kept(answers: Answers) -> None:
    judge = Pixels()
    observer = Observer(partial(picture_judges.make, judge), answers, block=1)
    with pytest.raises(ImageError, match="picture 2 is damaged"):
        observer.observe(Shades([1, 2, -1]))
    judge.shown.clear()
    observer.observe(Shades([1, 2]))
    assert judge.shown == [2]  # it was read, and not looked at yet


def test_a_worker_that_dies_is_one_sentence() -> None:
    make = partial(picture_judges.fatal, 7)
    with (
        Observer(make, workers=2, block=1) as observer,
        pytest.raises(LReorgError, match="--resume and fewer --workers"),
    ):
        observer.observe(Shades([1, 7, 3]))


def test_pictures_in_memory_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observing, "_MOST_PIXELS", 500)
    judge = Pixels()
    large = Shades(range(30), size=12)  # 144 pixels each
    Observer(partial(picture_judges.make, judge), block=32).observe(large)
    assert judge.largest == 3 * 144

    alive: list[int] = []

    class Counted(Shades):
        def picture(self, index: int) -> Picture | None:
            alive.append(index)
            return super().picture(index)

    many = Counted(range(200))
    most_ahead = 0

    def ahead(done: int, total: int) -> None:
        nonlocal most_ahead
        most_ahead = max(most_ahead, len(alive) - done)

    Observer(picture_judges.make, block=8).observe(many, ahead)
    assert most_ahead <= 8 + 1


def test_a_judge_that_answers_in_another_shape_is_refused(answers: Answers) -> None:
    with pytest.raises(ConfigError, match="a row for each"):
        Observer(partial(picture_judges.make, picture_judges.Broken())).observe(Shades([1]))
    Observer(picture_judges.make, answers).observe(Shades([1]))
    narrow = Pixels(width=DIM - 1)
    with pytest.raises(ConfigError, match=r"5 numbers for a picture and 6 before.*--force"):
        Observer(partial(picture_judges.make, narrow), answers).observe(Shades([1, 2]))


def test_arguments_out_of_range() -> None:
    for name, value in itertools.product(("workers", "block"), (0, 5000)):
        with pytest.raises(ConfigError, match=f"{name} is {value}"):
            Observer(picture_judges.make, **{name: value})
    with pytest.raises(ConfigError, match="no pictures"):
        Observer(picture_judges.make).observe(Shades([]))
