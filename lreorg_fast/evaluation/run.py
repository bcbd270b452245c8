"""One evaluation from pictures to figures: who is judged, by whom, on what."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import numpy as np

import lreorg_fast
from lreorg_fast.errors import ConfigError
from lreorg_fast.evaluation.attackers import (
    TRAINING_SIDE,
    Attacked,
    Attackers,
    part_of,
    photograph_attackers,
    small,
    split_people,
    training_pictures,
)
from lreorg_fast.evaluation.attacks.learning import TrainingSet
from lreorg_fast.evaluation.attacks.trained import Target
from lreorg_fast.evaluation.calibration import calibrate
from lreorg_fast.evaluation.contenders import Contender, Part, Progress, SomePictures
from lreorg_fast.evaluation.figures import Floats
from lreorg_fast.evaluation.finished import Finished, FinishedMethods
from lreorg_fast.evaluation.measured import Evaluation, Measured, MethodResult
from lreorg_fast.evaluation.observing import Observer, questions
from lreorg_fast.evaluation.protocol import Collection, Indices, Judges, Observed, Pictures
from lreorg_fast.evaluation.trial import MEASURES, Measure, Trial
from lreorg_fast.media.pictures import Picture

MakeAttackers = Callable[[Judges], Attackers]
# Opens one step of the work by its name; what it yields is told (done, total).
Stage = Callable[[str], contextlib.AbstractContextManager[Progress]]

ORIGINAL = "original"
_CLUSTER_SIZE = 10  # pictures of a person in the picture of clusters
_SAMPLE_SIDE = 256  # pixels; a contact sheet shows no more
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


@dataclass(frozen=True)
class EvaluationSettings:
    """What is done beside the figures.

    Args:
        attacks: whether attackers learn from outputs; it takes most of the time.
        samples: people on the contact sheet, 0 to 100.
        clustered: people whose embeddings are kept for the picture of clusters, 0 to 100.

    Raises:
        ConfigError: a number out of range.
    """

    attacks: bool = True
    samples: int = 12
    clustered: int = 10

    def __post_init__(self) -> None:
        for name in ("samples", "clustered"):
            value = getattr(self, name)
            if not 0 <= value <= 100:
                raise ConfigError(f"{name} is {value}, but must be 0 to 100")


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


@contextlib.contextmanager
def silent(what: str) -> Iterator[Progress]:
    """A stage that tells nobody."""
    yield lambda done, total: None


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
    source = (training, make_attackers)
    run = _Run(collection, observer, chosen, source, tuple(measures), stage, originals)
    done = [run.result(contender, finished) for contender in contenders]
    results = {entry.result.name: entry for entry in done}
    evaluation = Evaluation(
        describe_data(collection),
        describe_judges(observer.judges),
        tuple(run.calibration.measured()),
        tuple(entry.result for entry in done),
        _describe_run(command, time.monotonic() - begun),
    )
    return Evaluated(
        evaluation,
        {ORIGINAL: run.sampled(collection)} | {n: e.samples for n, e in results.items()},
        {ORIGINAL: run.clustered(originals)} | {n: e.features for n, e in results.items()},
        collection.subjects[run.cluster],
    )


class _Run:
    """What all contenders of one evaluation share."""

    def __init__(
        self,
        collection: Collection,
        observer: Observer,
        settings: EvaluationSettings,
        source: tuple[Collection | None, MakeAttackers],
        measures: Sequence[Measure],
        stage: Stage,
        originals: Observed,
    ) -> None:
        self._collection, self._observer = collection, observer
        self._measures, self._stage, self._originals = measures, stage, originals
        self.calibration = calibrate(collection.subjects, originals, observer.judges)
        self._shown = _first_pictures(collection.subjects, settings.samples, 1)
        self.cluster = _first_pictures(collection.subjects, settings.clustered, _CLUSTER_SIZE)
        self._settings = settings
        self._training, self._make_attackers = source

    def result(self, contender: Contender, finished: FinishedMethods | None) -> Finished:
        """What an earlier run found of the contender, or what is found now."""
        if finished is None:
            return self._judge(contender)
        key = self._key(contender)
        known = finished.get(key)
        if known is None:
            known = self._judge(contender)
            finished.put(key, known)
        return known

    def _judge(self, contender: Contender) -> Finished:
        with self._stage(f"{contender.name}: outputs") as progress:
            pictures = contender.outputs(self._collection, progress)
        if len(pictures) != len(self._collection):
            raise ConfigError(
                f"'{contender.name}' has {len(pictures)} outputs for {len(self._collection)} "
                "originals; there must be one for each"
            )
        with self._stage(f"{contender.name}: judges") as progress:
            outputs = self._observer.observe(pictures, progress)
        trial = Trial(
            self._collection,
            self._observer.judges,
            self._originals,
            self.calibration,
            contender,
            pictures,
            outputs,
            self._restored(contender),
            self._attacked(contender, pictures, outputs),
        )
        about = ("name", "title", "description", "guarantee", "command")
        with self._stage(f"{contender.name}: figures and attacks") as progress:
            measured: list[Measured] = []
            for done, measure in enumerate(self._measures):
                progress(done, len(self._measures))
                measured += measure(trial)
        return Finished(
            MethodResult(**{n: getattr(contender, n) for n in about}, measured=tuple(measured)),
            self.sampled(pictures),
            self.clustered(outputs),
        )

    def _attacked(
        self, contender: Contender, pictures: Pictures, outputs: Observed
    ) -> Attacked | str:
        if not self._settings.attacks:
            return "attacks that learn were not asked for"
        if self._training is not None:
            if not contender.runs:
                return "a folder holds no outputs for the people whom attackers learn from"
            with self._stage(f"{contender.name}: outputs to learn from") as progress:
                learnt: Pictures = contender.outputs(self._training, progress)
            return Attacked(
                self._attackers,
                Target(self._collection, pictures, outputs),
                self._originals,
                self._training_set(self._training, learnt),
                self._training.attributes,
            )
        if isinstance(self._split, str):
            return self._split
        known, rest = self._split
        part = Part(self._collection, known)
        return Attacked(
            self._attackers,
            Target(
                Part(self._collection, rest), SomePictures(pictures, rest), part_of(outputs, rest)
            ),
            part_of(self._originals, rest),
            self._training_set(part, SomePictures(pictures, known)),
            part.attributes,
        )

    def _training_set(self, originals: Collection, outputs: Pictures) -> TrainingSet:
        made = (outputs.picture(index) for index in range(len(outputs)))
        return TrainingSet(
            self._learnt_from,
            [None if picture is None else small(picture, TRAINING_SIDE) for picture in made],
            originals.subjects,
        )

    @functools.cached_property
    def _attackers(self) -> Attackers:
        return self._make_attackers(self._observer.judges)

    @functools.cached_property
    def _split(self) -> tuple[Indices, Indices] | str:
        return split_people(self._collection.subjects)

    @functools.cached_property
    def _learnt_from(self) -> tuple[Picture, ...]:
        """Originals to learn from, the same for all contenders."""
        if self._training is not None:
            return training_pictures(self._training)
        assert not isinstance(self._split, str)
        return training_pictures(Part(self._collection, self._split[0]))

    def _restored(self, contender: Contender) -> Observed | None:
        if not contender.restores:
            return None
        with self._stage(f"{contender.name}: reversal") as progress:
            pictures = contender.restored(self._collection, progress)
        with self._stage(f"{contender.name}: judges of the reversal") as progress:
            return self._observer.observe(pictures, progress)

    def sampled(self, pictures: Pictures) -> list[Picture | None]:
        """One picture each of the first people, small."""
        shown = [pictures.picture(int(index)) for index in self._shown]
        return [None if picture is None else small(picture, _SAMPLE_SIDE) for picture in shown]

    def clustered(self, observed: Observed) -> Floats:
        """(n, D) embeddings of some pictures of the first people, by the first recognizer."""
        name = self._observer.judges.recognizers[0].name
        embeddings: Floats = observed.embeddings[name][self.cluster]
        return embeddings

    def _key(self, contender: Contender) -> str:
        """Of everything that decides what is found of the contender."""
        about = [contender.name, contender.description, contender.command]
        if not contender.runs:
            outputs = contender.outputs(self._collection, lambda done, total: None)
            about.append(_fingerprint(outputs))
        return _sha256([self._shared_key, *about])

    @functools.cached_property
    def _shared_key(self) -> str:
        collection, judges = self._collection, self._observer.judges
        return _sha256(
            [
                lreorg_fast.__version__,
                repr(self._settings),
                [f"{measure.__module__}.{measure.__qualname__}" for measure in self._measures],
                None if self._training is None else self._training.name,
                collection.name,
                _fingerprint(collection),
                collection.subjects.tolist(),
                {name: labels.tolist() for name, labels in collection.attributes.items()},
                {name: list(labels) for name, labels in collection.groups.items()},
                [question.key for question in questions(judges)],
                dict(judges.missing),
            ]
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


def _describe_run(command: str, seconds: float) -> dict[str, Any]:
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


def _first_pictures(subjects: Indices, people: int, each: int) -> Indices:
    """Up to ``each`` pictures of each of the first ``people`` people, person by person."""
    first = list(dict.fromkeys(subjects.tolist()))[:people]
    chosen = [np.flatnonzero(subjects == person)[:each] for person in first]
    return np.concatenate([np.zeros(0, dtype=np.int64), *chosen])


def _fingerprint(pictures: Pictures) -> str:
    return _sha256([pictures.fingerprint(index) for index in range(len(pictures))])


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
