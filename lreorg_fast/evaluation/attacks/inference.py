"""Does an output tell an attribute that was hidden? A classifier is trained on outputs to say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from lreorg_fast.errors import MissingExtra
from lreorg_fast.evaluation.attacks.learning import Extractor, TrainingSet, in_chunks
from lreorg_fast.evaluation.attacks.trained import Target, looked_at
from lreorg_fast.evaluation.figures import (
    CONFIDENCE,
    RESAMPLES,
    Figure,
    Floats,
    wilson_interval,
)
from lreorg_fast.evaluation.measured import Measured, unavailable
from lreorg_fast.evaluation.pairs import seen
from lreorg_fast.evaluation.protocol import Indices, Labels

FEWEST_OF_A_KIND = 10


def inference(
    target: Target,
    training: TrainingSet,
    labels: Mapping[str, Labels],
    extractor: Extractor,
    features: str,
) -> list[Measured]:
    """``attribute_inference`` of every attribute that is known of both sets of people.

    Logistic regression on frozen features of outputs (scikit-learn), with the two answers weighted
    alike. The figure is the balanced share: the mean over people who have the attribute and people
    who have not of those named rightly, so that guessing gives one half whatever is common.

    Args:
        target: who is attacked; their true attributes are the collection's.
        training: the method's outputs for people who are in no test.
        labels: (n,) true attributes of the training pictures.
        extractor: what the classifier looks at.
        features: what that is, for the note.

    Raises:
        MissingExtra: without scikit-learn.
    """
    names = [name for name in labels if name in target.collection.attributes]
    if not names:
        reason = "no attribute is known of the test people and of the training people"
        return unavailable(["attribute_inference"], reason)
    released = np.array([output is not None for output in training.outputs], dtype=bool)
    outputs = [output for output in training.outputs if output is not None]
    if not outputs:
        return _all(names, "the method released no output to learn from")
    known = in_chunks(extractor, outputs)
    rows = looked_at(extractor, target.outputs, target.usable)
    usable = seen(known)
    found: list[Measured] = []
    for name in names:
        wanted = labels[name][released][usable]
        truth = target.collection.attributes[name]
        found += _named(name, known[usable], wanted, rows, truth, target, features)
    return found


def _all(names: list[str], reason: str) -> list[Measured]:
    return [Measured("attribute_inference", None, {"attribute": name}, reason) for name in names]


def _named(
    name: str,
    known: Floats,
    wanted: Labels,
    rows: Floats,
    truth: Labels,
    target: Target,
    features: str,
) -> Iterator[Measured]:
    where = {"attribute": name}
    pictures = np.flatnonzero(seen(rows))
    fewest = min(int(wanted.sum()), int((~wanted).sum()))
    tested = min(int(truth[pictures].sum()), int((~truth[pictures]).sum()))
    if min(fewest, tested) < FEWEST_OF_A_KIND:
        reason = (
            f"with and without '{name}' it needs {FEWEST_OF_A_KIND} outputs each to learn from and "
            f"to test, and the rarer are {fewest} and {tested}"
        )
        yield Measured("attribute_inference", None, where, reason)
        return
    right = _predicted(known, wanted, rows[pictures]) == truth[pictures]
    note = f"balanced, chance .5; logistic regression on {features}; {target.left_out}"
    figure = balanced_figure(right, truth[pictures], target.subjects[pictures], note)
    yield Measured("attribute_inference", figure, where)


def _predicted(known: Floats, wanted: Labels, rows: Floats) -> Labels:
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise MissingExtra(
            "attribute inference needs scikit-learn: pip install 'lreorg_fast[evaluate]'"
        ) from error
    # A tenth of the usual trust in the data: features are often more than pictures.
    regression = LogisticRegression(C=0.1, class_weight="balanced", max_iter=500)
    fitted = make_pipeline(StandardScaler(), regression).fit(known, wanted)
    return np.asarray(fitted.predict(rows), dtype=bool)


def balanced_figure(right: Labels, has: Labels, subjects: Indices, note: str) -> Figure:
    """Mean of the shares named rightly among those who have it and those who have not.

    The interval draws people with replacement, and is Wilson's over people where all agree.

    Args:
        right: (n,) named rightly.
        has: (n,) the truth; both answers must occur.
        subjects: (n,) the person.
        note: for the report.
    """
    people, number = np.unique(subjects, return_inverse=True)
    # (people, 4): right and all, of those who have it and of those who have not.
    sides = [right & has, has, right & ~has, ~has]
    table = np.stack([np.bincount(number, side, len(people)) for side in sides], axis=1)
    even = np.full(len(people), 1 / len(people))
    drawn = np.random.default_rng(0).multinomial(len(people), even, RESAMPLES) @ table
    with np.errstate(invalid="ignore"):
        values = (drawn[:, 0] / drawn[:, 1] + drawn[:, 2] / drawn[:, 3]) / 2
    total = table.sum(axis=0)
    value = float(total[0] / total[1] + total[2] / total[3]) / 2
    tail = (1 - CONFIDENCE) / 2
    low, high = (float(limit) for limit in np.nanquantile(values, [tail, 1 - tail]))
    if low == high:
        low, high = wilson_interval(value * len(people), len(people))
    return Figure(value, len(right), min(low, value), max(high, value), note)
