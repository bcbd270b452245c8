"""Stage 8: what the trained networks still need to make an Anonymizer.

Keyword features, the group codebook, the mean feature of each content (labelled by CLIP on
generated pictures, so label-free), and the thresholds of verification and evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from lreorg_fast.avatars.recipe.clip import ClipMeaning
from lreorg_fast.avatars.renderer import render
from lreorg_fast.avatars.traits import ATTRIBUTES, IDENTITY_TRAITS, sample_people
from lreorg_fast.cdfnet import CDFNet
from lreorg_fast.errors import MissingExtra
from lreorg_fast.evaluation import threshold_at_far
from lreorg_fast.keywords import KEYWORDS
from lreorg_fast.models import E4EEncoder, FaceBackbone, StyleGAN2Generator
from lreorg_fast.models.pixels import to_unit

_IDENTITY = "identity"
_FAR = 1e-3
_CHUNK = 200
# A hard impostor has about the same skin and eyes: the traits that a small picture shows most.
_HARD_TRAITS = tuple(IDENTITY_TRAITS.index(t) for t in ("skin", "undertone", "iris"))
_HARD_NEIGHBOURS = 10


@dataclass(frozen=True)
class TablesRecipe:
    """Sizes of the tables, and how many people the figures are measured on.

    ``groups`` is m and ``members`` n of docs/privacy.md.
    """

    seed: int = 71
    latents: int = 20_000
    groups: int = 256
    members: int = 8
    labelled: int = 3_000
    calibration_people: int = 1_500
    figures_people: int = 1_000


@torch.inference_mode()
def build_tables(
    recipe: TablesRecipe,
    net: CDFNet,
    generator: StyleGAN2Generator,
    clip: ClipMeaning,
) -> dict[str, Tensor]:
    """All tensors of the bundle's ``tables`` file."""
    random = torch.Generator().manual_seed(recipe.seed)
    z = torch.randn(recipe.latents, generator.config.style_dim, generator=random)
    w = generator.mapping(z.to(generator.latent_avg.device))
    features = clip.keyword_features()
    tables = {f"keyword.{name}": feature for name, feature in features.items()}
    identity, _ = net.disentangle(w, features[_IDENTITY])
    means, members = _codebook(identity, recipe)
    tables |= {"codebook.means": means, "codebook.members": members}
    labelled = w[: recipe.labelled]
    pictures = [generator.synthesis(part).clamp(-1, 1) for part in labelled.split(_CHUNK)]
    names = [name for name, keyword in KEYWORDS.items() if keyword.contents]
    found = zip(*(clip.contents(part, names) for part in pictures), strict=True)
    for name, parts in zip(names, found, strict=True):
        label = torch.cat(parts).argmax(dim=1)
        f, _ = net.disentangle(labelled, features[name])
        contents = range(len(KEYWORDS[name].contents))
        rows = [f[label == content].mean(0) for content in contents]
        tables[f"attribute.{name}.means"] = torch.stack(rows)
    return tables


def _codebook(identity: Tensor, recipe: TablesRecipe) -> tuple[Tensor, Tensor]:
    """Cluster unit features into groups; keep ``members`` random members of each."""
    try:
        from sklearn.cluster import KMeans
    except ImportError as error:
        raise MissingExtra("clustering needs scikit-learn: pip install 'lreorg_fast[train]'") from (
            error
        )
    unit = F.normalize(identity, dim=1).cpu().numpy()
    clusters = KMeans(recipe.groups, n_init=1, random_state=recipe.seed).fit(unit)
    random = np.random.default_rng(recipe.seed)
    members = []
    for group in range(recipe.groups):
        inside = np.flatnonzero(clusters.labels_ == group)
        chosen = random.choice(inside, recipe.members, replace=len(inside) < recipe.members)
        members.append(identity[torch.from_numpy(chosen)])
    means = torch.from_numpy(clusters.cluster_centers_.astype(np.float32))
    return means, torch.stack(members)


def _embed(net: FaceBackbone, pictures: Tensor) -> NDArray[np.float64]:
    return torch.cat([net(part) for part in pictures.split(_CHUNK)]).double().numpy()


def _impostors(
    embeddings: NDArray[np.float64], identity: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Similarities of random pairs, and of each person with the most alike strangers."""
    scores = embeddings @ embeddings.T
    random = scores[np.triu_indices(len(scores), 1)]
    traits = identity[:, _HARD_TRAITS]
    distance = np.linalg.norm(traits[:, None] - traits[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    nearest = np.argsort(distance, axis=1)[:, :_HARD_NEIGHBOURS]
    return random, np.take_along_axis(scores, nearest, axis=1).ravel()


@torch.inference_mode()
def calibrate(
    recipe: TablesRecipe,
    encoder: E4EEncoder,
    generator: StyleGAN2Generator,
    recognizers: Mapping[str, FaceBackbone],
    attribute_statistics: tuple[Tensor, Tensor],
) -> dict[str, float]:
    """Thresholds on rendered people of their own (neither trained on nor evaluated)."""
    random = torch.Generator().manual_seed(900_000 + recipe.seed)
    people = sample_people(recipe.calibration_people, 1, random)
    rendered = (render(people, generator.resolution) * 255).round().to(torch.uint8)
    pictures = to_unit(rendered)
    identity = people.identity.numpy()
    verify, _ = _impostors(_embed(recognizers["training"], pictures), identity)
    easy, hard = _impostors(_embed(recognizers["evaluation"], pictures), identity)
    errors = [
        (generator.synthesis(encoder(part)) - part).square().mean(dim=(1, 2, 3))
        for part in pictures.split(_CHUNK)
    ]
    numbers = {
        "verify.similarity": threshold_at_far(verify, _FAR),
        "verify.face": 0.0,
        "verify.reconstruction": 1.5 * float(torch.cat(errors).max()),
        "evaluation.threshold.random": threshold_at_far(easy, _FAR),
        "evaluation.threshold.hard": threshold_at_far(hard, _FAR),
    }
    for attribute, mean, deviation in zip(ATTRIBUTES, *attribute_statistics, strict=True):
        numbers[f"attributes.{attribute.name}.mean"] = float(mean)
        numbers[f"attributes.{attribute.name}.deviation"] = float(deviation)
    return numbers
