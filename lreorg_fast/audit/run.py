"""One audit: the layers that were asked for, on the codebook and networks of a bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lreorg_fast.audit.claims import Claim, false_claims, honest_claims
from lreorg_fast.audit.people import FEWEST_PEOPLE, People, drawn_people, people_of_folder
from lreorg_fast.audit.report import AuditReport, Finding
from lreorg_fast.audit.statistics import scipy_stats
from lreorg_fast.audit.tables import (
    Step,
    audit_faces,
    audit_pairs,
    black_box,
    isotropic_directions,
    sampler,
    white_box,
)
from lreorg_fast.errors import ConfigError
from lreorg_fast.pipeline import Anonymizer
from lreorg_fast.privacy import DEFAULT_EPSILON, PaperWindow
from lreorg_fast.privacy.arrays import Float64Array
from lreorg_fast.privacy.mechanisms import checked_epsilon

LAYERS = (1, 2, 3, 4, 5)
_OF_PICTURES = {4, 5}
# Of 256 pixels each they take 1 GB.
_MOST_PEOPLE = 5_000
_ONE_RUN_FALSE_EPSILON = 2.0
_FEW_COST = 20
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class AuditSettings:
    """What is audited.

    Args:
        epsilon: of the honest window randomized response, in [0, 20].
        layers: some of :data:`LAYERS`.
        people: for layer 5, 20 to 5,000; the more, the higher the bound can be. 500 refute a false
            claim of 2. With ``faces`` as many at most.
        seed: of the people who are drawn or chosen; the audited draws have no seed.
        faces: folder of aligned faces for layers 4 and 5, see
            :func:`lreorg_fast.audit.people.people_of_folder`; None draws avatars.

    Raises:
        ConfigError: a value out of range.
    """

    epsilon: float = DEFAULT_EPSILON
    layers: Iterable[int] = LAYERS
    people: int = 500
    seed: int = 0
    faces: str | None = None

    def __post_init__(self) -> None:
        checked_epsilon(self.epsilon)
        layers = tuple(sorted(set(self.layers)))
        if not layers or not set(layers) <= set(LAYERS):
            raise ConfigError(f"layers are {layers}, but must be some of {LAYERS}; name one")
        object.__setattr__(self, "layers", layers)
        if not FEWEST_PEOPLE <= self.people <= _MOST_PEOPLE:
            raise ConfigError(
                f"people is {self.people}, but must be {FEWEST_PEOPLE} to {_MOST_PEOPLE}; ask for "
                "another number"
            )
        if self.faces is not None and not _OF_PICTURES & set(layers):
            raise ConfigError("faces have no effect without layers 4 or 5; leave them out")

    def described(self) -> dict[str, Any]:
        """JSON-able, without the name of the folder, which may be a person's."""
        return vars(self) | {"faces": None if self.faces is None else "a folder"}


def run_audit(
    anonymizer: Anonymizer, settings: AuditSettings, progress: Progress | None = None
) -> AuditReport:
    """Audit the mechanisms on one bundle.

    Args:
        anonymizer: with the bundle; layers 1 to 3 use its codebook only.
        settings: what is audited.
        progress: called with (done, total) in units of about equal time.

    Returns:
        Everything that was found; ``passed`` says whether all of it is as it must be.

    Raises:
        ConfigError: layers 4 and 5 without ``faces`` and with a bundle that is not for avatars;
            too few faces.
        ImageError: a file among ``faces`` is no aligned face.
        MissingExtra: without scipy.
    """
    scipy_stats()
    audit = _Audit(anonymizer, settings, progress)
    return AuditReport(
        bundle=anonymizer.bundle.manifest.name,
        settings=settings.described() | {"groups": anonymizer.codebook.num_groups},
        findings=tuple(audit.findings()),
        people=audit.people.statement if _OF_PICTURES & set(settings.layers) else None,
    )


class _Audit:
    """The work of a run, in units: a thousand draws, or a picture, is about one."""

    def __init__(
        self, anonymizer: Anonymizer, settings: AuditSettings, progress: Progress | None
    ) -> None:
        self.anonymizer = anonymizer
        self.settings = settings
        self.progress = progress
        groups = anonymizer.codebook.num_groups
        self.honest = honest_claims(groups, settings.epsilon)
        self.false = false_claims(groups)
        self.done = 0
        self.total = sum(self._cost(layer) for layer in settings.layers)

    def findings(self) -> Iterator[Finding]:
        layers = {1: self._white_box, 2: self._sampler, 3: self._black_box}
        for layer in self.settings.layers:
            if layer in layers:
                yield from layers[layer]()
        if _OF_PICTURES & set(self.settings.layers):
            yield from self._pictures()

    def _codebooks(self) -> Iterator[tuple[tuple[Claim, ...], Float64Array]]:
        """What is audited on which (m, dim) directions.

        Controls need a codebook in which their faults show. That of a bundle may lie in a narrow
        cone, where all distances are nearly equal and even a wrong exponential mechanism hardly
        depends on the face.
        """
        yield self.honest, self.anonymizer.codebook.directions
        yield self.false, isotropic_directions(self.anonymizer.codebook.num_groups)

    def _white_box(self) -> Iterator[Finding]:
        for claims, directions in self._codebooks():
            distances = 1.0 - audit_faces(directions) @ directions.T
            yield from white_box(claims, distances, self._step(10))

    def _sampler(self) -> Iterator[Finding]:
        distances = audit_pairs(self.anonymizer.codebook.directions)[0][0]
        return sampler(self.honest, distances, self._step(100))

    def _black_box(self) -> Iterator[Finding]:
        for claims, directions in self._codebooks():
            pairs = audit_pairs(directions)
            for claim in claims:
                yield from black_box([claim], pairs, self._step(_draw_cost(claim)))

    def _pictures(self) -> Iterator[Finding]:
        from lreorg_fast.audit.pictures import Attacker, end_to_end, one_run

        attacker = Attacker(self.anonymizer, self.people.pictures, self._step(1))
        if 4 in self.settings.layers:
            claims = (*self.honest, self.false[0])
            yield from end_to_end(attacker, claims, self._step(_FEW_COST))
        if 5 in self.settings.layers:
            yield from one_run(attacker, self._one_run_claims(), self._step(1))

    def _one_run_claims(self) -> tuple[Claim, ...]:
        paper = PaperWindow(_ONE_RUN_FALSE_EPSILON, self.anonymizer.codebook.num_groups)
        claim = Claim(paper.name, _ONE_RUN_FALSE_EPSILON, paper, False, 1)
        return (*self.honest, claim)

    @cached_property
    def people(self) -> People:
        """Whose pictures layers 4 and 5 look at."""
        asked = self.settings
        if asked.faces is None:
            return drawn_people(self.anonymizer, asked.people, asked.seed)
        return people_of_folder(self.anonymizer, asked.faces, asked.people, asked.seed)

    def _step(self, units: int) -> Step:
        def step(count: int) -> None:
            self.done += units * count
            if self.progress is not None:
                self.progress(min(self.done, self.total), self.total)

        return step

    def _cost(self, layer: int) -> int:
        members = self.anonymizer.codebook.members
        claims = (*self.honest, *self.false)
        costs = {
            1: 10 * len(claims),
            2: 100 * len(self.honest),
            3: 8 * sum(_draw_cost(claim) for claim in claims),
            4: members.shape[0] * members.shape[1] + (len(self.honest) + 1) * 8 * _FEW_COST,
        }
        if layer == 5:
            return (len(self.honest) + 1) * (len(self.people.pictures) + 1)
        return int(costs[layer])


def _draw_cost(claim: Claim) -> int:
    """Of one pair; controls are drawn from their tables, which takes no time."""
    return 2 * claim.draws // 1000 if claim.honest else 1
