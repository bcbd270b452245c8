"""Does an output tell an attribute that was hidden? A classifier is trained on outputs to say."""

from __future__ import annotations

from collections.abc import Mapping

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
    convention: str | None = None,
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
        convention: tells several extractors apart in the entries; None for the only one.

    Raises:
        MissingExtra: without scikit-learn.
    """
    about = {} if convention is None else {"convention": convention}
    names = [name for name in labels if name in target.collection.attributes]
    if not names:
        reason = "no attribute is known of the test people and of the training people"
        return unavailable(["attribute_inference"], reason, **about)
    released = np.array([output is not None for output in training.outputs], dtype=bool)
    outputs = [output for output in training.outputs if output is not None]
    if not outputs:
        reason = "the method released no output to learn from"
        return [
            Measured("attribute_inference", None, {"attribute": n, **about}, reason) for n in names
        ]
    known = in_chunks(extractor, outputs)
    rows = looked_at(extractor, target.outputs, target.usable)
    usable = seen(known)
    return [
        _named(
            {"attribute": name, **about},
            (known[usable], labels[name][released][usable]),
            (rows, target.collection.attributes[name]),
            target,
            features,
        )
        for name in names
    ]


def _named(
    where: dict[str, str],
    training: tuple[Floats, Labels],
    test: tuple[Floats, Labels],
    target: Target,
    features: str,
) -> Measured:
    """One attribute, from features and truth of the training outputs and of the tested ones."""
    (known, wanted), (rows, truth) = training, test
    pictures = np.flatnonzero(seen(rows))
    truth = truth[pictures]
    fewest = min(int(wanted.sum()), int((~wanted).sum()))
    tested = min(int(truth.sum()), int((~truth).sum()))
    if min(fewest, tested) < FEWEST_OF_A_KIND:
        reason = (
            f"with and without the attribute it needs {FEWEST_OF_A_KIND} outputs each to learn "
            f"from and to test, and the rarer are {fewest} and {tested}"
        )
        return Measured("attribute_inference", None, where, reason)
    right = _predicted(known, wanted, rows[pictures]) == truth
    note = f"balanced, chance .5; logistic regression on {features}; {target.left_out}"
    figure = balanced_figure(right, truth, target.subjects[pictures], note)
    return Measured("attribute_inference", figure, where)


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
