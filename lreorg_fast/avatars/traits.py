"""What an avatar is: who it is, how it looks today, and the circumstances of the picture.

* identity ``(N, 20)`` in [-1, 1]: the traits that stay with a person.
* attributes, a dict of ``(N,)``: what the keywords speak about, and what may change on a person.
* nuisance ``(N, 16)`` in [-1, 1]: pose, light, background, clothes.

Deliberate: gender is an *attribute* here and not part of the identity. A person is the twenty
traits, and the recognizers are trained to find them under any gender, age, hair and make-up.
That makes recognition harder to fool by swapping an attribute, so the privacy figures are the
stricter ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

IDENTITY_TRAITS = (
    "head_width",
    "head_height",
    "jaw",
    "chin",
    "skin",
    "undertone",
    "eye_distance",
    "eye_size",
    "eye_tilt",
    "iris",
    "brow_height",
    "brow_thickness",
    "brow_tilt",
    "nose_length",
    "nose_width",
    "mouth_width",
    "mouth_height",
    "lips",
    "ears",
    "eye_height",
)
NUISANCE_DIM = 16
_ATTRIBUTE_DRAWS = 20
# Independent draws that make one avatar.
LATENT_DIM = len(IDENTITY_TRAITS) + _ATTRIBUTE_DRAWS + NUISANCE_DIM


@dataclass(frozen=True)
class Attribute:
    """One attribute: its range and the value above which it counts as present."""

    name: str
    low: float
    high: float
    threshold: float


ATTRIBUTES = (
    Attribute("gender", 0.0, 1.0, 0.5),  # 0 male .. 1 female
    Attribute("age", 0.0, 1.0, 0.5),  # 0 young .. 1 old
    Attribute("expression", -1.0, 1.0, 0.3),  # -1 sad .. 1 smiling
    Attribute("makeup", 0.0, 1.0, 0.3),
    Attribute("color", 0.0, 1.0, 0.5),  # black, brown, auburn, blond
    Attribute("gray", 0.0, 1.0, 0.3),
    Attribute("curly", 0.0, 1.0, 0.35),
    Attribute("length", 0.0, 1.0, 0.5),  # 0 bald .. 1 long
    Attribute("beard", 0.0, 1.0, 0.25),
    Attribute("glasses", 0.0, 1.0, 0.5),
)
ATTRIBUTE_NAMES = tuple(a.name for a in ATTRIBUTES)


@dataclass(frozen=True)
class Avatars:
    """The description of N avatars; everything that the renderer needs."""

    identity: Tensor
    attributes: Mapping[str, Tensor]
    nuisance: Tensor

    def __len__(self) -> int:
        return len(self.identity)

    def __getitem__(self, index: slice | Tensor) -> Avatars:
        attributes = {name: value[index] for name, value in self.attributes.items()}
        return Avatars(self.identity[index], attributes, self.nuisance[index])

    def labels(self) -> Tensor:
        """Attribute values ``(N, 10)`` in the order of :data:`ATTRIBUTES`."""
        return torch.stack([self.attributes[name] for name in ATTRIBUTE_NAMES], dim=1)

    def with_attributes(self, **values: float) -> Avatars:
        """The same avatars with some attributes set for all of them."""
        changed = dict(self.attributes)
        for name, value in values.items():
            changed[name] = torch.full_like(changed[name], value)
        return Avatars(self.identity, changed, self.nuisance)


def sample_identity(count: int, generator: torch.Generator) -> Tensor:
    return torch.rand(count, len(IDENTITY_TRAITS), generator=generator) * 2 - 1


def sample_nuisance(count: int, generator: torch.Generator) -> Tensor:
    return torch.rand(count, NUISANCE_DIM, generator=generator) * 2 - 1


def sample_attributes(count: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Attributes with the correlations of real portraits (beards on men, gray on the old)."""
    return _attributes(lambda: torch.rand(count, generator=generator))


def _attributes(uniform: Callable[[], Tensor]) -> dict[str, Tensor]:
    """Attributes from :data:`_ATTRIBUTE_DRAWS` independent draws in [0, 1), taken in order."""

    def chance(probability: float) -> Tensor:
        return (uniform() < probability).float()

    female = chance(0.5)
    age = uniform()
    short = 0.2 + 0.25 * uniform()
    long = 0.6 + 0.4 * uniform()
    bald, long_haired_man = chance(0.14), chance(0.12)
    length_man = torch.where(bald > 0, 0.0, torch.where(long_haired_man > 0, long, short))
    length_woman = 0.45 + 0.55 * uniform()
    smiling, smile, other = chance(0.45), 0.55 + 0.45 * uniform(), uniform() * 1.3 - 1
    return {
        "gender": female * 0.85 + 0.15 * uniform(),
        "age": age,
        "expression": torch.where(smiling > 0, smile, other),
        "makeup": chance(0.55) * female * (0.55 + 0.45 * uniform()),
        "color": uniform(),
        "gray": ((age - 0.62) * 4).clamp(0, 1) * (0.6 + 0.4 * uniform()),
        "curly": chance(0.4) * (0.7 + 0.3 * uniform()),
        "length": torch.where(female > 0, length_woman, length_man),
        "beard": chance(0.4) * (1 - female) * (0.5 + 0.5 * uniform()),
        "glasses": chance(0.3),
    }


def avatars_of(z: Tensor) -> Avatars:
    """The avatars that latents stand for: ``(N, LATENT_DIM)``, standard normal -> N avatars.

    Only the direction of z counts, as for a StyleGAN2 mapping network, which normalizes its input.
    Avatars of random z are distributed as those of :func:`sample_avatars`, but for that: draws of
    one avatar have a correlation of about -1 / LATENT_DIM in their squares.
    """
    length = z.norm(dim=1, keepdim=True) / math.sqrt(LATENT_DIM)
    identity, drawn, nuisance = torch.special.ndtr(z / length).split(
        [len(IDENTITY_TRAITS), _ATTRIBUTE_DRAWS, NUISANCE_DIM], dim=1
    )
    draws = iter(drawn.unbind(dim=1))
    return Avatars(identity * 2 - 1, _attributes(lambda: next(draws)), nuisance * 2 - 1)


def sample_avatars(count: int, generator: torch.Generator) -> Avatars:
    """``count`` different people, each in one picture."""
    identity = sample_identity(count, generator)
    attributes = sample_attributes(count, generator)
    return Avatars(identity, attributes, sample_nuisance(count, generator))


def sample_people(people: int, pictures: int, generator: torch.Generator) -> Avatars:
    """``people`` identities with ``pictures`` each, person by person; all else is drawn anew."""
    identity = sample_identity(people, generator).repeat_interleave(pictures, dim=0)
    count = people * pictures
    attributes = sample_attributes(count, generator)
    return Avatars(identity, attributes, sample_nuisance(count, generator))
