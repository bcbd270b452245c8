"""What the outputs are still good for: attributes, look, geometry, variety, and the way back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from lreorg_fast.evaluation.calibration import NO_OTHER_PICTURE, Calibration, calibrate
from lreorg_fast.evaluation.figures import Figure, mean_figure
from lreorg_fast.evaluation.frechet import frechet_figure
from lreorg_fast.evaluation.geometry import ANGLES, eye_distances, head_pose
from lreorg_fast.evaluation.measured import Measured, unavailable
from lreorg_fast.evaluation.observations import Found, Observations, mean_per_picture, measure
from lreorg_fast.evaluation.pairs import genuine_pairs, paired_cosines, seen, stranger_means
from lreorg_fast.evaluation.protection import judged_faces
from lreorg_fast.evaluation.protocol import (
    Collection,
    FeatureNet,
    Indices,
    Judges,
    Labels,
    Observed,
)

_NO_READER = "no attribute reader was given; name one"
_NO_FEATURES = "no feature network was given; name one"
_NO_LANDMARKS = "the detector knows no landmarks; name one that does"
_NO_GAZE = "no gaze model is packaged or known to this evaluation, and five landmarks hold no gaze"
SAME_PICTURE = "same picture"


def preservation(
    collection: Collection, originals: Observed, outputs: Observed, judges: Judges
) -> list[Measured]:
    """APR, FID or feature distance, landmark and pose error, diversity.

    Args:
        collection: of N originals; its true attributes are used where it has them.
        originals, outputs: what the judges said of them and of the method's outputs for them.
        judges: that looked.
    """
    found = [
        *attributes_found(collection, originals, outputs, judges),
        *_looks(originals, outputs, judges),
        *_geometry(originals, outputs, judges),
        *_diversity(collection, outputs, judges),
    ]
    return measure(found, collection.subjects)


def attributes_found(
    collection: Collection, originals: Observed, outputs: Observed, judges: Judges
) -> Iterator[Found]:
    """APR per attribute and its mean; what was not released counts as not preserved."""
    reader = judges.attributes
    if reader is None or originals.attributes is None or outputs.attributes is None:
        reason = judges.missing.get("attributes", _NO_READER)
        yield from unavailable(["apr", "apr_mean"], reason)
        return
    truth, true_names = _truth(collection, originals.attributes, reader.names)
    kept = (outputs.attributes == truth) & outputs.released[:, None]
    every = np.arange(len(kept))
    filled = f"{int((~outputs.released).sum())} not released count as not preserved"
    for column, name in enumerate(reader.names):
        source = "true label" if name in true_names else "the reader's word on the original"
        where, note = {"attribute": name}, f"against the {source}; {filled}"
        yield Observations("apr", where, every, kept[:, column].astype(np.float64), note)
    note = f"mean over {', '.join(reader.names)}; {filled}"
    yield Observations("apr_mean", {}, every, kept.mean(axis=1), note)


def recovery(
    collection: Collection,
    originals: Observed,
    restored: Observed,
    judges: Judges,
    calibration: Calibration | None = None,
) -> list[Measured]:
    """What comes back with the method's own reversal.

    Identity, per recognizer and false accept rate: the restored face is accepted as another picture
    of its person; with the convention "same picture" as the very picture that was anonymized, which
    is what the paper's 59.5% is about. Attributes: the reader says what it said of the original.

    Args:
        collection, originals, judges: as :func:`preservation`.
        restored: what the judges said of the restored pictures; not released where there is none.
        calibration: of :func:`calibrate` on the originals, made here if None.
    """
    known = calibration or calibrate(collection.subjects, originals, judges)
    found: list[Found] = []
    for (name, far), threshold in known.thresholds.items():
        where = {"recognizer": name, "far": far}
        if threshold.value is None or threshold.refusal is not None:
            found += unavailable(["recovery"], str(threshold.refusal), **where)
            continue
        found += _identity(collection.subjects, originals, restored, threshold.value, where)
    return measure([*found, *_attributes_back(originals, restored, judges)], collection.subjects)


def _identity(
    subjects: Indices,
    originals: Observed,
    restored: Observed,
    threshold: float,
    where: dict[str, str],
) -> Iterator[Found]:
    name = where["recognizer"]
    first, second = originals.embeddings[name], restored.embeddings[name]
    usable, known = judged_faces(restored, second), seen(first)
    every = np.arange(len(subjects))
    for convention, (face, other) in {
        None: genuine_pairs(subjects, both_ways=True),
        SAME_PICTURE: (every, every),
    }.items():
        place = where if convention is None else {**where, "convention": convention}
        both = restored.released[face] & known[other]
        if not both.any():
            reason = "nothing was restored" if not restored.released.any() else NO_OTHER_PICTURE
            yield Measured("recovery", None, place, reason)
            continue
        face, other = face[both], other[both]
        accepted = np.zeros(len(face))
        see = usable[face]
        accepted[see] = paired_cosines(second, first, face[see], other[see]) > threshold
        pictures, values = mean_per_picture(face, accepted, len(subjects))
        note = f"accepted above {threshold:.4g}; a restored face that is not found counts as lost"
        yield Observations("recovery", place, pictures, values, note)


def _attributes_back(originals: Observed, restored: Observed, judges: Judges) -> Iterator[Found]:
    if judges.attributes is None or originals.attributes is None or restored.attributes is None:
        reason = judges.missing.get("attributes", _NO_READER)
        yield Measured("recovery", None, {}, reason)
        return
    pictures = np.flatnonzero(restored.released)
    same = (originals.attributes == restored.attributes)[pictures]
    for column, name in enumerate(judges.attributes.names):
        values = same[:, column].astype(np.float64)
        note = "the reader says what it said of the original"
        yield Observations("recovery", {"attribute": name}, pictures, values, note)


def _truth(collection: Collection, read: Labels, names: Sequence[str]) -> tuple[Labels, set[str]]:
    """(N, A) true labels, or the reader's on the original where none are known; the known ones."""
    truth = read.copy()
    known = set(names) & set(collection.attributes)
    for column, name in enumerate(names):
        if name in known:
            truth[:, column] = collection.attributes[name]
    return truth, known


def _looks(originals: Observed, outputs: Observed, judges: Judges) -> Iterator[Measured]:
    """Distances of feature distributions, each in its own convention."""
    if not judges.features:
        yield from unavailable(["fid"], judges.missing.get("fid", _NO_FEATURES))
    for net in judges.features:
        yield _distance(originals, outputs, net)


def _distance(originals: Observed, outputs: Observed, net: FeatureNet) -> Measured:
    where = {"convention": net.convention}
    sets = [seen_by.statistics.get(net.convention) for seen_by in (originals, outputs)]
    counts = [0 if statistics is None else statistics[2] for statistics in sets]
    if sets[0] is None or sets[1] is None or min(counts) < 2:
        reason = f"it needs 2 originals and 2 released pictures and there are {counts}"
        return Measured(net.metric, None, where, reason)
    return Measured(net.metric, frechet_figure(sets[0], sets[1]), where)


def _geometry(originals: Observed, outputs: Observed, judges: Judges) -> Iterator[Found]:
    """Where the features of the face are, and where the head points."""
    yield from unavailable(["gaze_error"], judges.missing.get("gaze", _NO_GAZE))
    before, after = originals.landmarks, outputs.landmarks
    if before is None or after is None:
        reason = judges.missing.get("landmarks", judges.missing.get("finder", _NO_LANDMARKS))
        yield from unavailable(["landmark_error", "pose_error"], reason)
        return
    both = np.isfinite(before).all(axis=(1, 2)) & np.isfinite(after).all(axis=(1, 2))
    pictures = np.flatnonzero(both & outputs.released & (eye_distances(before) > 0))
    if not len(pictures):
        reason = "the detector finds landmarks in no original and its output together"
        yield from unavailable(["landmark_error", "pose_error"], reason)
        return
    total, before, after = len(before), before[pictures], after[pictures]
    errors = np.linalg.norm(after - before, axis=2).mean(axis=1) / eye_distances(before)
    note = f"of the {len(pictures)} of {total} pictures with landmarks before and after"
    yield Observations("landmark_error", {}, pictures, errors, note)
    difference = np.abs((head_pose(after) - head_pose(before) + 180) % 360 - 180)
    note += "; an estimate: five landmarks on an average head, no model of pose"
    for column, angle in enumerate(ANGLES):
        yield Observations("pose_error", {"angle": angle}, pictures, difference[:, column], note)


def _diversity(collection: Collection, outputs: Observed, judges: Judges) -> Iterator[Measured]:
    """Whether different people still look different from each other."""
    for recognizer in judges.recognizers:
        where = {"recognizer": recognizer.name}
        embeddings = outputs.embeddings[recognizer.name]
        usable = np.flatnonzero(judged_faces(outputs, embeddings))
        subjects = collection.subjects[usable]
        if len(np.unique(subjects)) < 2:
            reason = "no two people have an output in which a face is seen"
            yield Measured("diversity", None, where, reason)
            continue
        rows = embeddings[usable]
        others = stranger_means(rows, rows, np.arange(len(rows)), subjects)
        note = f"between {len(np.unique(subjects)):,} people's outputs"
        yield Measured("diversity", _of_pairs(mean_figure(1 - others, subjects, note=note)), where)


def _of_pairs(figure: Figure) -> Figure:
    """Each value is one side of many pairs, and both sides vary: twice the width of a mean.

    To first order a mean over pairs deviates by twice what the mean of its projections does
    (Hoeffding 1948).
    """
    low, high = (2 * limit - figure.value for limit in (figure.low, figure.high))
    return replace(figure, low=low, high=high)
