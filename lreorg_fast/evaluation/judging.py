"""One contender after the other, or several at once, under the same rules."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import lreorg_fast
from lreorg_fast.errors import ConfigError
from lreorg_fast.evaluation.attackers import (
    TRAINING_SIDE,
    Attacked,
    Attackers,
    part_of,
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
from lreorg_fast.evaluation.measured import Measured, MethodResult
from lreorg_fast.evaluation.methods import write_outputs
from lreorg_fast.evaluation.methods.keeping import Entry
from lreorg_fast.evaluation.observing import (
    MakeJudges,
    Observer,
    be_a_worker,
    died,
)
from lreorg_fast.evaluation.protocol import Collection, Indices, Judges, Observed, Pictures
from lreorg_fast.evaluation.questions import questions
from lreorg_fast.evaluation.settings import EvaluationSettings
from lreorg_fast.evaluation.trial import Measure, Trial
from lreorg_fast.media.pictures import Picture

MakeAttackers = Callable[[Judges], Attackers]
# Opens one step of the work by its name; what it yields is told (done, total).
Stage = Callable[[str], contextlib.AbstractContextManager[Progress]]

ORIGINAL = "original"
_CLUSTER_SIZE = 10  # pictures of a person in the picture of clusters
_SAMPLE_SIDE = 256  # pixels; a contact sheet shows no more


@contextlib.contextmanager
def silent(what: str) -> Iterator[Progress]:
    """A stage that tells nobody."""
    yield lambda done, total: None


@dataclass(frozen=True)
class Keep:
    """A folder for outputs; ``overwrite`` replaces those of an earlier run."""

    folder: Path
    overwrite: bool = False

    def write(self, contender: Contender, originals: Collection, outputs: Pictures) -> None:
        """Those of one method; of ``original`` nothing, which would copy the originals.

        Raises:
            OutputError: see :func:`lreorg_fast.evaluation.methods.write_outputs`.
        """
        if contender.runs and contender.name != ORIGINAL:
            write_outputs(
                self.folder / contender.name,
                originals.names,
                self._entries(originals, outputs),
                _described(contender),
                self.overwrite,
            )

    def _entries(self, originals: Collection, outputs: Pictures) -> Iterator[Entry]:
        for index, name in enumerate(originals.names):
            output = outputs.picture(index)
            shown = originals.picture(index) if output is None else output
            assert shown is not None  # an original that was read before
            yield name, (shown.shape[1], shown.shape[0]), output


@dataclass(frozen=True, eq=False)
class Rules:
    """The same for every contender; picklable.

    Attributes:
        collection: the originals.
        originals: what the judges said of them.
        settings: what is done.
        training: other people, of whom attackers learn; None splits the collection.
        make_attackers: what attackers learn with.
        measures: what is measured.
        keep: where the outputs of methods that run here are written, a folder for each; None keeps
            nothing.
    """

    collection: Collection
    originals: Observed
    settings: EvaluationSettings
    training: Collection | None
    make_attackers: MakeAttackers
    measures: Sequence[Measure]
    keep: Keep | None = None


class Judging:
    """Rules with the judges who apply them.

    Args:
        rules: see there.
        observer: with the judges.
        stage: shows progress.
    """

    def __init__(self, rules: Rules, observer: Observer, stage: Stage = silent) -> None:
        self._rules, self._observer, self._stage = rules, observer, stage
        subjects = rules.collection.subjects
        self.calibration = calibrate(subjects, rules.originals, observer.judges)
        self._shown = _first_pictures(subjects, rules.settings.samples, 1)
        self.cluster = _first_pictures(subjects, rules.settings.clustered, _CLUSTER_SIZE)

    def results(
        self, contenders: Sequence[Contender], finished: FinishedMethods | None
    ) -> list[Finished]:
        """Of all contenders, in order: what an earlier run found, or what is found now.

        With several workers, methods that run here are each given to one of them; what is read
        from folders is shared among them picture by picture.
        """
        keys = {c.name: "" if finished is None else self.key(c) for c in contenders}
        done: dict[str, Finished] = {}
        for contender in contenders:
            known = None if finished is None else finished.get(keys[contender.name])
            if known is not None:
                done[contender.name] = known
        left = [contender for contender in contenders if contender.name not in done]
        for name, result in self._judged(left):
            done[name] = result
            if finished is not None:
                finished.put(keys[name], result)
        return [done[contender.name] for contender in contenders]

    def _judged(self, contenders: Sequence[Contender]) -> Iterator[tuple[str, Finished]]:
        run = [contender for contender in contenders if contender.runs]
        together = run if self._observer.workers > 1 and len(run) > 1 else []
        for contender in contenders:
            if contender not in together:
                yield contender.name, self.judge(contender)
        if together:
            yield from self._in_workers(together)

    def _in_workers(self, contenders: Sequence[Contender]) -> Iterator[tuple[str, Finished]]:
        count = min(self._observer.workers, len(contenders))
        pool = ProcessPoolExecutor(
            count,
            multiprocessing.get_context("spawn"),
            _start_worker,
            (self._rules, self._observer.make_judges, max(1, (os.cpu_count() or 1) // count)),
        )
        with self._stage(f"{len(contenders)} methods, {count} at a time") as progress:
            try:
                names = {pool.submit(_judge_in_worker, c): c.name for c in contenders}
                for number, job in enumerate(as_completed(names), start=1):
                    with died():
                        result = job.result()
                    progress(number, len(contenders))
                    yield names[job], result
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def judge(self, contender: Contender) -> Finished:
        """Run it or read it, show it to the judges, attack it, measure it.

        Raises:
            ConfigError: it has not an output for each original.
        """
        with self._stage(f"{contender.name}: outputs") as progress:
            pictures = contender.outputs(self._rules.collection, progress)
        if len(pictures) != len(self._rules.collection):
            raise ConfigError(
                f"'{contender.name}' has {len(pictures)} outputs for {len(self._rules.collection)} "
                "originals; there must be one for each"
            )
        if self._rules.keep is not None:
            self._rules.keep.write(contender, self._rules.collection, pictures)
        with self._stage(f"{contender.name}: judges") as progress:
            outputs = self._observer.observe(pictures, progress)
        trial = Trial(
            self._rules.collection,
            self._observer.judges,
            self._rules.originals,
            self.calibration,
            contender,
            pictures,
            outputs,
            self._restored(contender),
            self._attacked(contender, pictures, outputs),
        )
        with self._stage(f"{contender.name}: figures and attacks") as progress:
            measured: list[Measured] = []
            for done, measure in enumerate(self._rules.measures):
                progress(done, len(self._rules.measures))
                measured += measure(trial)
        return Finished(
            MethodResult(**_described(contender), measured=tuple(measured)),
            self.sampled(pictures),
            self.clustered(outputs),
        )

    def _attacked(
        self, contender: Contender, pictures: Pictures, outputs: Observed
    ) -> Attacked | str:
        if not self._rules.settings.attacks:
            return "attacks that learn were not asked for"
        if self._rules.training is not None:
            if not contender.runs:
                return "a folder holds no outputs for the people whom attackers learn from"
            with self._stage(f"{contender.name}: outputs to learn from") as progress:
                learnt: Pictures = contender.outputs(self._rules.training, progress)
            return Attacked(
                self._attackers,
                Target(self._rules.collection, pictures, outputs),
                self._rules.originals,
                self._training_set(self._rules.training, learnt),
                self._rules.training.attributes,
            )
        if isinstance(self._split, str):
            return self._split
        known, rest = self._split
        part = Part(self._rules.collection, known)
        return Attacked(
            self._attackers,
            Target(
                Part(self._rules.collection, rest),
                SomePictures(pictures, rest),
                part_of(outputs, rest),
            ),
            part_of(self._rules.originals, rest),
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
        return self._rules.make_attackers(self._observer.judges)

    @functools.cached_property
    def _split(self) -> tuple[Indices, Indices] | str:
        return split_people(self._rules.collection.subjects)

    @functools.cached_property
    def _learnt_from(self) -> tuple[Picture, ...]:
        """Originals to learn from, the same for all contenders."""
        if self._rules.training is not None:
            return training_pictures(self._rules.training)
        assert not isinstance(self._split, str)
        return training_pictures(Part(self._rules.collection, self._split[0]))

    def _restored(self, contender: Contender) -> Observed | None:
        if not contender.restores:
            return None
        with self._stage(f"{contender.name}: reversal") as progress:
            pictures = contender.restored(self._rules.collection, progress)
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

    def key(self, contender: Contender) -> str:
        """Of everything that decides what is found of the contender."""
        about = [contender.name, contender.description, contender.command]
        if not contender.runs:
            outputs = contender.outputs(self._rules.collection, lambda done, total: None)
            about.append(_fingerprint(outputs))
        return _sha256([self._shared_key, *about])

    @functools.cached_property
    def _shared_key(self) -> str:
        collection, judges = self._rules.collection, self._observer.judges
        return _sha256(
            [
                lreorg_fast.__version__,
                repr(self._rules.settings),
                [
                    f"{measure.__module__}.{measure.__qualname__}"
                    for measure in self._rules.measures
                ],
                None if self._rules.training is None else self._rules.training.name,
                collection.name,
                _fingerprint(collection),
                collection.subjects.tolist(),
                {name: labels.tolist() for name, labels in collection.attributes.items()},
                {name: list(labels) for name, labels in collection.groups.items()},
                [question.key for question in questions(judges)],
                dict(judges.missing),
            ]
        )


def _described(contender: Contender) -> dict[str, str]:
    about = ("name", "title", "description", "guarantee", "command")
    return {field: getattr(contender, field) for field in about}


def _first_pictures(subjects: Indices, people: int, each: int) -> Indices:
    """Up to ``each`` pictures of each of the first ``people`` people, person by person."""
    first = list(dict.fromkeys(subjects.tolist()))[:people]
    chosen = [np.flatnonzero(subjects == person)[:each] for person in first]
    return np.concatenate([np.zeros(0, dtype=np.int64), *chosen])


def _fingerprint(pictures: Pictures) -> str:
    return _sha256([pictures.fingerprint(index) for index in range(len(pictures))])


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


_worker: Judging | None = None


def _start_worker(rules: Rules, make_judges: MakeJudges, threads: int) -> None:
    global _worker
    be_a_worker(threads)
    _worker = Judging(rules, Observer(make_judges))


def _judge_in_worker(contender: Contender) -> Finished:
    assert _worker is not None
    return _worker.judge(contender)
