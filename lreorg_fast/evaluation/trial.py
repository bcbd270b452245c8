"""All that is known of one contender, and what is measured on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from lreorg_fast.evaluation.attackers import Attacked
from lreorg_fast.evaluation.attacks.inference import inference
from lreorg_fast.evaluation.attacks.linkage import linkage
from lreorg_fast.evaluation.attacks.parrot import parrot
from lreorg_fast.evaluation.attacks.residual import (
    outside_of_face,
    residual,
    residual_extractor,
)
from lreorg_fast.evaluation.attacks.reversal import reversal
from lreorg_fast.evaluation.calibration import Calibration
from lreorg_fast.evaluation.contenders import Contender
from lreorg_fast.evaluation.measured import Measured, unavailable
from lreorg_fast.evaluation.preservation import preservation, recovery
from lreorg_fast.evaluation.protection import protection
from lreorg_fast.evaluation.protocol import Collection, Judges, Observed, Pictures
from lreorg_fast.evaluation.subgroups import subgroups

# For layer 5 of the audit, 14 s of one core; 500 refute a false claim of 2 (docs/audit.md).
_AUDITED = 300


@dataclass(frozen=True, eq=False)
class Trial:
    """One contender on one collection.

    Attributes:
        collection: the originals.
        judges: who looked.
        originals: what they said of the originals.
        calibration: what their recognizers are worth on the originals.
        contender: whose outputs these are.
        pictures: the outputs.
        outputs: what the judges said of them.
        restored: what they said of the outputs brought back with their keys; None without keys.
        attacked: for attacks that learn; or why there are none.
    """

    collection: Collection
    judges: Judges
    originals: Observed
    calibration: Calibration
    contender: Contender
    pictures: Pictures
    outputs: Observed
    restored: Observed | None
    attacked: Attacked | str


Measure = Callable[[Trial], Iterable[Measured]]


def protected(trial: Trial) -> list[Measured]:
    """See :func:`lreorg_fast.evaluation.protection.protection`."""
    seen = (trial.originals, trial.outputs, trial.judges)
    return protection(trial.collection, *seen, trial.calibration)


def preserved(trial: Trial) -> list[Measured]:
    """See :func:`lreorg_fast.evaluation.preservation.preservation`."""
    return preservation(trial.collection, trial.originals, trial.outputs, trial.judges)


def recovered(trial: Trial) -> list[Measured]:
    """See :func:`lreorg_fast.evaluation.preservation.recovery`."""
    if trial.restored is None:
        return unavailable(["recovery"], "the method has no keys that bring a face back here")
    seen = (trial.originals, trial.restored, trial.judges)
    return recovery(trial.collection, *seen, trial.calibration)


def linked(trial: Trial) -> list[Measured]:
    """See :func:`lreorg_fast.evaluation.attacks.linkage.linkage`."""
    return linkage(trial.collection, trial.outputs, trial.judges)


def by_group(trial: Trial) -> list[Measured]:
    """See :func:`lreorg_fast.evaluation.subgroups.subgroups`."""
    if not trial.contender.hides_identity_alone:
        return []  # the tables of groups compare the methods of the main table
    seen = (trial.originals, trial.outputs, trial.judges)
    return subgroups(trial.collection, *seen, trial.calibration)


def attacked(trial: Trial) -> Iterable[Measured]:
    """The attacks that learn from the method's outputs for other people."""
    attack, network = trial.attacked, trial.contender.anonymizer
    if isinstance(attack, str):
        metrics = ("parrot_rank_1", "parrot_tar", "blanked_rank_1", "attribute_inference")
        yield from unavailable(metrics, attack)
        return
    target, training, attackers = attack.target, attack.training, attack.attackers
    yield from inference(target, training, attack.labels, attackers.extractor, attackers.features)
    if network is not None:
        for name in trial.contender.hidden_attributes:
            features, told = residual_extractor(network, name), f"residual of {name}"
            labels = {k: v for k, v in attack.labels.items() if k == name}
            yield from inference(target, training, labels, features, told, told)
    if not trial.contender.hides_identity_alone:
        return
    for learner in attackers.learners:
        yield from parrot(target, training, learner)
    yield from outside_of_face(target, training, trial.judges.finder)
    if network is None:
        reason = "the method has no network here that could be run backwards or taken apart"
        yield from unavailable(["residual_rank_1", "reversal_rank_1"], reason)
        return
    yield from residual(target, training, network)
    yield from reversal(target, attack.originals, trial.judges, network)
    if trial.contender.is_default:
        from lreorg_fast.audit import AuditSettings
        from lreorg_fast.evaluation.attacks.audited import audited

        yield from audited(network, AuditSettings(layers=(5,), people=_AUDITED))


MEASURES: Sequence[Measure] = (protected, preserved, recovered, linked, by_group, attacked)
