"""What is left untouched (residual, surroundings), attributes, and the network backwards."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import pytest
from bundles import toy_bundle
from toy_pictures import (
    SIZE,
    Method,
    Shown,
    attacked,
    colours,
    draw,
    independent,
    learnt,
    no_judge,
    opposite_corner,
    same,
)

from lreorg_fast.audit import AuditReport, AuditSettings, Finding
from lreorg_fast.demo.figures import draw_people
from lreorg_fast.demo.judge import Judge
from lreorg_fast.errors import ConfigError, MissingExtra
from lreorg_fast.evaluation.attacks import Target, TrainingSet
from lreorg_fast.evaluation.attacks.audited import audited
from lreorg_fast.evaluation.attacks.inference import balanced_figure, inference
from lreorg_fast.evaluation.attacks.residual import blanked, outside_of_face, residual
from lreorg_fast.evaluation.attacks.reversal import CONVENTIONS, reversal, reversed_without_key
from lreorg_fast.evaluation.measured import Measured
from lreorg_fast.evaluation.protocol import Judges, Observed
from lreorg_fast.media.pictures import FILL_COLOUR, Picture
from lreorg_fast.pipeline import Anonymizer

CHANCE = 1 / 60


@pytest.fixture(scope="module")
def anonymizer(tmp_path_factory: pytest.TempPathFactory) -> Anonymizer:
    return Anonymizer.load(
        toy_bundle(tmp_path_factory.mktemp("toy") / "bundle"), backend="reference"
    )


def share(found: Sequence[Measured]) -> float:
    (entry,) = found
    assert entry.figure is not None, entry.reason
    return entry.figure.value


# ---- residual


def test_the_residual_of_unprotected_pictures_names_people(anonymizer: Anonymizer) -> None:
    assert share(residual(attacked(same), learnt(same), anonymizer)) > 0.5


def test_the_residual_of_independent_pictures_names_nobody(anonymizer: Anonymizer) -> None:
    (entry,) = residual(attacked(independent), learnt(independent), anonymizer)
    assert entry.metric == "residual_rank_1"
    assert entry.figure is not None
    assert entry.figure.low <= CHANCE <= entry.figure.high


# ---- the face blanked


@pytest.mark.parametrize("method", [same, opposite_corner])
def test_surroundings_that_stay_name_people(method: Method) -> None:
    assert share(outside_of_face(attacked(method), learnt(method))) > 0.8


def test_surroundings_that_are_new_name_nobody() -> None:
    assert share(outside_of_face(attacked(independent), learnt(independent))) < 0.1


def test_the_face_itself_is_not_seen() -> None:
    def only_the_middle(pictures: Sequence[Picture]) -> list[Picture | None]:
        made = []
        for picture in pictures:
            edge = np.full_like(picture, 7)
            edge[4:12, 4:12] = picture[4:12, 4:12]
            made.append(edge)
        return made

    assert share(outside_of_face(attacked(only_the_middle), learnt(only_the_middle))) < 0.1


def test_the_face_is_blanked_where_it_is() -> None:
    picture = np.zeros((100, 200, 3), np.uint8)
    aligned = blanked(picture)
    assert tuple(aligned[54, 100]) == FILL_COLOUR
    assert not picture.any()
    assert not aligned[:5].any()
    assert not aligned[:, :20].any()
    points = np.array([[40, 30], [60, 30], [50, 40], [42, 50], [58, 50]], dtype=np.float64)
    found = blanked(picture, points)
    assert tuple(found[40, 50]) == FILL_COLOUR
    assert not found[:, 90:].any()
    assert np.array_equal(blanked(picture, np.full((5, 2), np.nan)), aligned)


# ---- attributes


def tinted(method: Method, count: int, each: int, seed: int) -> tuple[Target, TrainingSet, dict]:
    """Half of the pictures, at random, have a red corner; the method comes after."""
    sets = []
    for people, number in ((count, seed), (60, seed + 1)):
        pictures, subjects = draw(people, each, number)
        has = np.random.default_rng(number).random(len(pictures)) < 0.5
        for picture, red in zip(pictures, has, strict=True):
            picture[:4, :4] = [230, 30, 30] if red else [30, 30, 230]
        sets.append((pictures, subjects, has))
    (shown, people, truth), (own, others, known) = sets
    outputs = method(shown)
    target = Target(Shown(shown, people, {"red": truth}), Shown(outputs, people), no_judge(outputs))
    return target, TrainingSet(own, method(own), others), {"red": known}


def test_an_attribute_that_shows_is_inferred() -> None:
    target, training, labels = tinted(same, 60, 2, 5)
    found = inference(target, training, labels, colours, "colours")
    assert found[0].where == {"attribute": "red"}
    assert share(found) > 0.95
    (entry,) = inference(target, training, labels, colours, "colours", convention="fields")
    assert entry.where == {"attribute": "red", "convention": "fields"}


def test_an_attribute_that_is_gone_is_guessed() -> None:
    (entry,) = inference(*tinted(independent, 60, 2, 5), colours, "colours")
    assert entry.figure is not None
    assert entry.figure.low < 0.5 < entry.figure.high


def test_rare_attributes_and_silence_have_reasons() -> None:
    target, training, labels = tinted(same, 60, 2, 5)
    rare = {"red": np.arange(len(labels["red"])) < 3}
    (entry,) = inference(target, training, rare, colours, "colours")
    assert "the rarer are 3" in str(entry.reason)
    silent = TrainingSet(training.originals, [None] * 120, training.subjects)
    (entry,) = inference(target, silent, labels, colours, "colours")
    assert "released no output" in str(entry.reason)
    (entry,) = inference(target, training, {"hat": labels["red"]}, colours, "colours")
    assert "no attribute is known" in str(entry.reason)


def test_a_common_answer_is_no_knowledge() -> None:
    has = np.arange(200) < 190
    figure = balanced_figure(has, has, np.arange(200), "always yes")
    assert figure.value == 0.5
    everything = balanced_figure(np.ones(200, bool), has, np.arange(200) // 2, "")
    assert everything.value == 1
    assert everything.low == pytest.approx(0.963, abs=0.001)  # Wilson of 100 people


# ---- backwards


class Recognizer:
    name = "evaluation"
    description = "of the demo bundle"

    def __init__(self, anonymizer: Anonymizer) -> None:
        self.embed = Judge(anonymizer.bundle).embed


def test_backwards_without_the_key() -> None:
    """The control must find avatars that are not protected, and nobody behind other avatars."""
    anonymizer = Anonymizer.load("demo")
    people, others = draw_people(30, 5, 64), draw_people(60, 6, 64).probes
    shown = [picture for pair in zip(people.probes, people.others, strict=True) for picture in pair]
    subjects = np.repeat(np.arange(30), 2)
    judge = Recognizer(anonymizer)
    every = np.ones(60, bool)
    seen = Observed(every, {"evaluation": judge.embed(shown)}, None, every, None, {})
    ranks = {}
    for name, outputs in (("same", shown), ("others", others)):
        target = attacked(lambda _, o=outputs: o, pictures=(shown, subjects))
        for entry in reversal(target, seen, Judges((judge,)), anonymizer):
            assert entry.figure is not None
            ranks[name, entry.where["convention"]] = entry.figure.value
    assert {convention for _, convention in ranks} == set(CONVENTIONS)
    assert ranks["same", "own feature"] > 0.5
    assert max(ranks["others", convention] for convention in CONVENTIONS) < 0.15
    # Everybody's identity is the mean's: what is found then is not the identity feature.
    assert ranks["same", "mean feature"] < ranks["same", "own feature"] - 0.2


def test_reversed_pictures_have_the_size_of_what_was_given(anonymizer: Anonymizer) -> None:
    pictures, _ = draw(2, 1, seed=0)
    for convention in CONVENTIONS:
        made = reversed_without_key(anonymizer, pictures, convention)
        assert [picture.shape for picture in made] == [(SIZE, SIZE, 3)] * 2
    mean, own = (reversed_without_key(anonymizer, pictures, c)[0] for c in CONVENTIONS)
    assert (mean != own).any()


# ---- audit


def test_audited_bounds_need_avatars_and_picture_layers(anonymizer: Anonymizer) -> None:
    with pytest.raises(ConfigError, match="4 and 5"):
        audited(anonymizer, AuditSettings(layers=(1, 4)))
    (entry,) = audited(anonymizer, AuditSettings(layers=(4, 5), people=20))
    assert "layers 4 and 5 draw avatars, but the bundle is for noise" in str(entry.reason)


def test_bounds_of_the_audit_become_figures(
    anonymizer: Anonymizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def finding(layer: int, honest: bool, measured: float) -> Finding:
        return Finding(layer, "window", 1.0, honest, measured, "bound", "500 people", None)

    findings = (
        finding(4, True, 0.3),
        finding(4, False, 3.0),
        finding(5, True, 1.5),
        finding(5, True, float("inf")),
    )
    report = AuditReport("toy", {}, findings)
    monkeypatch.setattr(
        "lreorg_fast.evaluation.attacks.audited.run_audit", lambda *arguments: report
    )
    kept, refuted, infinite = audited(anonymizer, AuditSettings(layers=(4, 5), people=20))
    assert kept.where == {"mechanism": "window", "convention": "end to end"}
    assert kept.figure is not None
    assert (kept.figure.low, kept.figure.value, kept.figure.high) == (0.3, 0.3, 1.0)
    assert refuted.figure is not None
    assert refuted.figure.note.startswith("REFUTED")
    assert (kept.figure.n, refuted.figure.n) == (20_000, 20)
    assert "infinite" in str(infinite.reason)


MISSING = "lreorg_fast\\[evaluate\\]"


def test_inference_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(MissingExtra, match=MISSING):
        inference(*tinted(same, 60, 2, 5), colours, "colours")


def test_a_discriminant_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.decomposition", None)
    with pytest.raises(MissingExtra, match=MISSING):
        outside_of_face(attacked(same), learnt(same))
