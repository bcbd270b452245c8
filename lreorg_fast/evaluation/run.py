"""One evaluation from pictures to figures: who is judged, by whom, on what."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import numpy as np

import lreorg_fast
from lreorg_fast.errors import ConfigError
from lreorg_fast.evaluation.attackers import photograph_attackers
from lreorg_fast.evaluation.contenders import Contender
from lreorg_fast.evaluation.figures import Floats
from lreorg_fast.evaluation.finished import FinishedMethods
from lreorg_fast.evaluation.judging import (
    ORIGINAL,
    Judging,
    Keep,
    MakeAttackers,
    Rules,
    Stage,
    silent,
)
from lreorg_fast.evaluation.measured import Evaluation
from lreorg_fast.evaluation.observing import Observer
from lreorg_fast.evaluation.protocol import Collection, Indices, Judges, Observed
from lreorg_fast.evaluation.settings import EvaluationSettings
from lreorg_fast.evaluation.trial import MEASURES, Measure
from lreorg_fast.media.pictures import Picture

_STATEMENTS = {
    "avatars": (
        "Measured on avatars: drawn faces of nobody, whose identity and attributes are known. "
        "The figures compare methods on avatars and say nothing about photographs."
    ),
    "photographs": (
        "Measured on the photographs of this folder; other people, cameras and recognizers give "
        "other figures."
    ),
}


@dataclass(frozen=True, eq=False)
class Evaluated:
    """What :func:`evaluate` found.

    Attributes:
        evaluation: all figures.
        samples: pictures by method, the same people in the same order; ``original`` is first.
        features: by method, (n, D) embeddings of outputs by the first recognizer; ``original``
            is first.
        people: (n,) who is behind each row of ``features``.
    """

    evaluation: Evaluation
    samples: Mapping[str, Sequence[Picture | None]] = field(repr=False)
    features: Mapping[str, Floats] = field(repr=False)
    people: Indices = field(repr=False)


def evaluate(
    collection: Collection,
    contenders: Sequence[Contender],
    observer: Observer,
    settings: EvaluationSettings | None = None,
    *,
    training: Collection | None = None,
    make_attackers: MakeAttackers = photograph_attackers,
    measures: Sequence[Measure] = MEASURES,
    finished: FinishedMethods | None = None,
    keep: Keep | None = None,
    stage: Stage = silent,
    command: str = "",
) -> Evaluated:
    """Judge every contender on the same originals.

    Args:
        collection: originals of known people.
        contenders: methods and folders; their names differ.
        observer: with the judges, their cache and their processes.
        settings: of what is kept for the report.
        training: other people, of whom attackers learn by running the methods on them; None has
            them learn from half of the people of the collection, and attack the rest.
        make_attackers: what attackers learn with.
        measures: what is measured of each contender.
        finished: where contenders that are done are kept, for a run that goes on later.
        keep: where the outputs of methods that run here are written.
        stage: shows progress.
        command: that repeats this run, for the report.

    Raises:
        ConfigError: no contenders, two of one name, no recognizer, or judges that see nothing in
            any original.
        LReorgError: pictures that cannot be read, a worker that died.
    """
    _check_names(contenders)
    if not observer.judges.recognizers:
        reason = observer.judges.missing.get("recognizers", "none was given")
        raise ConfigError(f"there is no recognizer, so nothing can be said of protection: {reason}")
    begun = time.monotonic()
    chosen = settings or EvaluationSettings()
    with stage("looking at originals") as progress:
        originals = observer.observe(collection, progress)
    _check_seen(originals)
    rules = Rules(collection, originals, chosen, training, make_attackers, tuple(measures), keep)
    run = Judging(rules, observer, stage)
    done = run.results(contenders, finished)
    results = {entry.result.name: entry for entry in done}
    evaluation = Evaluation(
        describe_data(collection),
        describe_judges(observer.judges),
        tuple(run.calibration.measured()),
        tuple(entry.result for entry in done),
        describe_run(command, time.monotonic() - begun),
    )
    return Evaluated(
        evaluation,
        {ORIGINAL: run.sampled(collection)} | {n: e.samples for n, e in results.items()},
        {ORIGINAL: run.clustered(originals)} | {n: e.features for n, e in results.items()},
        collection.subjects[run.cluster],
    )


def describe_data(collection: Collection) -> dict[str, Any]:
    """For :attr:`Evaluation.data`."""
    return {
        "name": collection.name,
        "domain": collection.domain,
        "pictures": len(collection),
        "subjects": len(np.unique(collection.subjects)),
        "statement": _STATEMENTS[collection.domain],
    }


def describe_judges(judges: Judges) -> dict[str, Any]:
    """For :attr:`Evaluation.judges`: who looked, or why nobody did."""
    missing = judges.missing
    reader, finder = judges.attributes, judges.finder
    return {
        "recognizers": [{"name": r.name, "description": r.description} for r in judges.recognizers],
        "attributes": missing.get("attributes", "none") if reader is None else reader.description,
        "detector": missing.get("finder", "none") if finder is None else finder.description,
        "fid": [f"{net.metric}: {net.convention}" for net in judges.features]
        or missing.get("fid", "none"),
        "missing": dict(missing),
    }


def describe_run(command: str, seconds: float) -> dict[str, Any]:
    """For :attr:`Evaluation.run`."""
    return {
        "command": command,
        "version": lreorg_fast.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} logical cores, {platform.system()}",
        "seconds": round(seconds, 1),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _check_names(contenders: Sequence[Contender]) -> None:
    if not contenders:
        raise ConfigError("nothing is evaluated: name a folder of outputs or a method")
    names = [contender.name for contender in contenders]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two of the methods are called '{name}'; rename a folder")
    if any(contender.name == ORIGINAL and not contender.runs for contender in contenders):
        raise ConfigError(f"a folder of outputs is called '{ORIGINAL}'; rename it")


def _check_seen(originals: Observed) -> None:
    if any(np.isfinite(rows).all(axis=1).any() for rows in originals.embeddings.values()):
        return
    raise ConfigError(
        "no recognizer sees a face in any original, so nothing can be measured; are these "
        "pictures of faces, and of the judges' kind?"
    )
