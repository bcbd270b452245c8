"""The parrot attack (Newton, Sweeney and Malin 2005): learn the method's outputs, then recognize.

The decisive one: a method that only confuses recognizers which never saw its outputs (blur,
pixels) protects from nobody who runs it on people of their own. The attacker's recognizer is
trained on originals **and** outputs of other people under the same names, so that it learns what
survives; then it names the outputs of the people who are attacked. In the literature the gallery
is either anonymized as well or left as it was: both are reported.

The control is the same training on originals only. It shows what the training itself brings.
"""

from __future__ import annotations

import numpy as np

from lreorg_fast.evaluation.attacks.learning import Learner, TrainingSet
from lreorg_fast.evaluation.attacks.trained import GALLERIES, Target, accepted, look, named, rank_1
from lreorg_fast.evaluation.identification import Identified
from lreorg_fast.evaluation.measured import Measured, unavailable

_FAR = {"1e-3": 1e-3}


def parrot(target: Target, training: TrainingSet, learner: Learner) -> list[Measured]:
    """``parrot_rank_1`` and ``parrot_tar`` (FAR 1e-3) with originals and with outputs enrolled.

    Args:
        target: who is attacked.
        training: the method's outputs for people who are in no test.
        learner: how the recognizer is trained; it starts where it was, see
            :class:`~lreorg_fast.evaluation.attacks.learning.FineTuned`.

    Returns:
        Figures, whose note holds the control; the reason for none where the method released too
        little to learn from.
    """
    where = {"recognizer": learner.name}
    if training.refusal is not None:
        found = []
        for convention in GALLERIES:
            place = {**where, "convention": convention}
            found += unavailable(["parrot_rank_1"], training.refusal, **place)
            for far in _FAR:
                found += unavailable(["parrot_tar"], training.refusal, **place, far=far)
        return found
    control = look(learner.train(training.originals, training.subjects), target)
    sight = look(learner.train(*training.joint()), target)
    found = []
    for convention in GALLERIES:
        place = {**where, "convention": convention}
        note = _control(named(control, target, convention))
        found.append(rank_1("parrot_rank_1", sight, target, place, convention, note))
        for far, rate in _FAR.items():
            there = {**place, "far": far}
            found.append(accepted("parrot_tar", sight, target, there, convention, rate))
    return found


def _control(found: Identified | None) -> str:
    if found is None:
        return "no control"
    share = float(np.mean(found.standing.within(1)))
    return f"the same training on originals only finds {share:.1%}"
