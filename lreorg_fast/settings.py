"""What one anonymization is asked to do, validated before any picture is touched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from numpy.typing import NDArray

from lreorg_fast.errors import ConfigError
from lreorg_fast.keywords import DEFAULT_HIDE, DEFAULT_KEEP, check_selection
from lreorg_fast.log import once
from lreorg_fast.privacy import (
    DEFAULT_EPSILON,
    DEFAULT_MECHANISM,
    AttributeAnonymizer,
    Codebook,
    GroupIdentityAnonymizer,
    make_mechanism,
)
from lreorg_fast.privacy.randomness import Sampler, sampler_for

IDENTITY = "identity"
RANDOMIZED = "randomized"
# A fair draw says nothing of the original's content and costs nothing. Randomized response at
# epsilon 1 would leave the original content in 73% of faces, the paper's farthest rule gives it
# away to whoever knows the rule, and under ``neutral`` the rest of the latent shows through
# (docs/demo_figures.md).
DEFAULT_ATTRIBUTE_RULE = "uniform"
FeatureAnonymizer = GroupIdentityAnonymizer | AttributeAnonymizer


@dataclass(frozen=True)
class Settings:
    """One call's settings; :meth:`lreorg_fast.Anonymizer.__call__` describes the fields.

    A setting that would have no effect is refused rather than ignored.
    """

    hide: Iterable[str] = DEFAULT_HIDE
    keep: Iterable[str] | None = None
    epsilon: float | None = None
    mechanism: str = DEFAULT_MECHANISM
    attribute_rule: str | None = None
    attribute_epsilon: float | None = None

    def resolve(
        self,
        available: Iterable[str],
        codebook: Codebook,
        means: Mapping[str, NDArray],  # type: ignore[type-arg]
        sampler: Sampler | None = None,
    ) -> ResolvedSettings:
        """Check against a bundle's keywords and make the anonymizer of each hidden one.

        Raises:
            ConfigError: unknown or contradicting keywords, nothing to hide, or a setting out of
                range or without effect.
        """
        hide = self.hide if isinstance(self.hide, str) else tuple(self.hide)
        keep = self.keep
        if keep is None:
            keep = tuple(name for name in DEFAULT_KEEP if name not in hide)
        hidden, kept = check_selection(hide, keep, tuple(available))
        if not hidden:
            raise ConfigError("hide is empty, so nothing would be anonymized; name a keyword")
        self._refuse_idle(hidden)
        if IDENTITY not in hidden:
            once("identity-kept", "identity is not hidden: the person stays recognisable")
        anonymizers: dict[str, FeatureAnonymizer] = {}
        for name in hidden:
            own = sampler_for(sampler, name)
            if name == IDENTITY:
                drawn_by = make_mechanism(
                    self.mechanism, self.epsilon, codebook.num_groups, sampler=own
                )
                anonymizers[name] = GroupIdentityAnonymizer(codebook, drawn_by)
            else:
                rule = (
                    DEFAULT_ATTRIBUTE_RULE if self.attribute_rule is None else self.attribute_rule
                )
                epsilon = self.attribute_epsilon
                if rule == RANDOMIZED and epsilon is None:
                    epsilon = DEFAULT_EPSILON
                anonymizers[name] = AttributeAnonymizer(means[name], rule, epsilon, own)
        return ResolvedSettings(hidden, kept, anonymizers)

    def _refuse_idle(self, hidden: tuple[str, ...]) -> None:
        if IDENTITY not in hidden:
            if self.epsilon is not None:
                raise ConfigError("epsilon has no effect: it is for identity, which is not hidden")
            if self.mechanism != DEFAULT_MECHANISM:
                raise ConfigError("mechanism has no effect: identity is not hidden")
        if set(hidden) <= {IDENTITY}:
            for name in ("attribute_rule", "attribute_epsilon"):
                if getattr(self, name) is not None:
                    raise ConfigError(f"{name} has no effect: only identity is hidden")


@dataclass(frozen=True)
class ResolvedSettings:
    """Settings that fit a bundle: keywords in order, and what replaces each hidden one."""

    hide: tuple[str, ...]
    keep: tuple[str, ...]
    anonymizers: Mapping[str, FeatureAnonymizer]
