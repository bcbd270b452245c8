"""Attribute anonymizers (KAA): another content of a keyword such as gender or age."""

from __future__ import annotations

from typing import Any

import numpy as np

from lreorg_fast.errors import ConfigError
from lreorg_fast.privacy.arrays import Float64Array, face_feature, float32_table
from lreorg_fast.privacy.labelled import KAnonymityFarthest
from lreorg_fast.privacy.mechanisms import GroupMechanism, Uniform, WindowRandomizedResponse
from lreorg_fast.privacy.randomness import Sampler
from lreorg_fast.privacy.replacement import Replacement

ATTRIBUTE_RULES = {
    "uniform": "epsilon = 0: the content is drawn evenly, whatever the face shows",
    "farthest": "hides from people, not from someone who knows the method",
    "randomized": (
        "epsilon-local differential privacy of the attribute's key feature: between any two faces "
        "the odds of every content differ by at most a factor e^epsilon"
    ),
    "neutral": "epsilon = 0: every face gets the same key feature for the attribute",
}
"""Rule to its label."""
_DRAWN = ("uniform", "randomized")


class AttributeAnonymizer:
    """Replaces the key feature of one attribute by the mean feature of a content.

    - ``uniform``: one of the contents, each equally likely. What the result shows says nothing
      about the face, as far as the drawn content prevails over the rest of the latent.
    - ``farthest``: the farthest content (the paper's rule). Deterministic; with two contents it
      is a bijection and gives the original content away to anyone who knows the rule.
    - ``randomized``: k-ary randomized response on the nearest content: it is kept with
      probability e^epsilon / (e^epsilon + c - 1), otherwise another is drawn uniformly. Its
      epsilon adds to that of the identity.
    - ``neutral``: the mean over contents, the same for every face. It asks the picture for no
      content, so the rest of the latent decides: measured, it hides little.

    Nearest and farthest are by Euclidean distance, which does not change when all features share
    an offset, as features of one keyword do.

    Args:
        means: (c, dim) mean key feature of each content, c >= 2, torch or numpy.
        rule: a key of :data:`ATTRIBUTE_RULES`.
        epsilon: in [0, 20], required by ``randomized`` and refused by the others.
        sampler: None (the operating system's generator) outside tests; only ``uniform`` and
            ``randomized`` draw.

    Raises:
        ConfigError: means not (c, dim), zero or not finite, an unknown rule, epsilon missing or
            without effect.
    """

    def __init__(
        self,
        means: Any,
        rule: str,
        epsilon: float | None = None,
        sampler: Sampler | None = None,
    ) -> None:
        self._means = float32_table("means", means, ndim=2)
        if len(self._means) < 2:
            raise ConfigError(
                f"means has shape {self._means.shape}, but must be (contents, dim) with 2 or more "
                "contents; pass one mean per content"
            )
        _check_rule(rule, epsilon)
        self._rule = rule
        self._mechanism = _content_mechanism(rule, epsilon, len(self._means), sampler)

    @property
    def rule(self) -> str:
        """Name of the rule."""
        return self._rule

    @property
    def mechanism(self) -> GroupMechanism | None:
        """The mechanism over contents, whose exact table can be read; None for ``neutral``."""
        return self._mechanism

    @property
    def epsilon(self) -> float:
        """Cost of one replacement, infinity where there is no guarantee."""
        return 0.0 if self._mechanism is None else self._mechanism.epsilon

    @property
    def guarantee(self) -> str:
        """One sentence: what a replacement guarantees, or does not."""
        drawn = self._rule in _DRAWN
        if drawn and self._mechanism and not self._mechanism.sampler.secure:
            return self._mechanism.guarantee
        return ATTRIBUTE_RULES[self._rule]

    def distances(self, feature: Any) -> Float64Array:
        """(c,) Euclidean distances of one face's feature to the means."""
        difference = self._means - face_feature(feature, self._means.shape[1])
        distances: Float64Array = np.linalg.norm(difference, axis=1)
        return distances

    def replacement(self, feature: Any) -> Replacement:
        """The replacement for one face. Every call of a rule that draws is a new draw.

        Args:
            feature: (tokens, dim) or (dim,) key feature of the attribute, torch or numpy.

        Raises:
            PrivacyError: wrong shape, NaN, infinity or zero.
        """
        distances = self.distances(feature)
        content = None if self._mechanism is None else self._mechanism.draw(distances)
        rows = self._means if content is None else self._means[content : content + 1]
        return Replacement(
            feature=rows.mean(axis=0),
            group=content,
            epsilon=self.epsilon,
            mechanism=self._rule,
            guarantee=self.guarantee,
        )


def _content_mechanism(
    rule: str, epsilon: float | None, contents: int, sampler: Sampler | None
) -> GroupMechanism | None:
    if epsilon is not None:
        # k-ary randomized response is the window mechanism with the nearest rank as its window.
        return WindowRandomizedResponse(epsilon, contents, (1, 1), sampler)
    if rule == "uniform":
        return Uniform(contents, sampler)
    # The same function of the distances as the k-anonymity baseline.
    return KAnonymityFarthest(contents) if rule == "farthest" else None


def _check_rule(rule: str, epsilon: float | None) -> None:
    if rule not in ATTRIBUTE_RULES:
        raise ConfigError(
            f"rule is {rule!r}, but must be one of {', '.join(ATTRIBUTE_RULES)}; choose one"
        )
    if (rule == "randomized") != (epsilon is not None):
        raise ConfigError(
            f"epsilon is {epsilon!r} with rule '{rule}', but 'randomized' needs one and the others "
            "have no use for it; " + ("give one" if epsilon is None else "leave it out")
        )
