"""What one key feature carries: a swap's effect on identity and on every keyword's contents.

Disentanglement decides whether recovering attributes brings the person back, so it is what a
training run is judged by. Everything is judged by the networks of the losses, which flatters; the
figures are for comparing runs and steps with one another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lreorg_fast.cdfnet import CDFNet
from lreorg_fast.training.keyword_swap import Judges

_CHUNK = 16


@dataclass(frozen=True)
class SwapFigures:
    """One keyword swapped between pairs of faces.

    Attributes:
        similarity: mean cosine of identity with the same face before, -1 to 1.
        donor: with the face that gave the key feature.
        follows: share of the faces whose own content differed from the donor's that then have the
            donor's; None for a keyword without contents, or where no pair differed.
        stays: for every other keyword, share of faces whose content did not change.
    """

    similarity: float
    donor: float
    follows: float | None
    stays: Mapping[str, float]


@torch.no_grad()
def swap_figures(
    net: CDFNet,
    judges: Judges,
    features: Mapping[str, Tensor],
    contents: Sequence[str],
    s: Tensor,
) -> dict[str, SwapFigures]:
    """Figures of every keyword of ``features``.

    Args:
        net: on the device of the latents.
        judges: asked for pictures, identity and contents.
        features: keyword features ``(cond_dim,)``.
        contents: the keywords that have contents.
        s: latents ``(N, rows, dim)``; each takes the key feature of the next.
    """
    known, was = _seen(judges, s, contents)
    found = {}
    for name, k in features.items():
        f, r = net.disentangle(s, k)
        _, swapped = net.fuse(f.roll(-1, dims=0), r, k)
        now_known, now = _seen(judges, swapped, contents)
        follows = None
        if name in contents:
            own, donor = was[name], was[name].roll(-1)
            differs = own != donor
            follows = _share((now[name] == donor)[differs]) if bool(differs.any()) else None
        found[name] = SwapFigures(
            similarity=float((known * now_known).sum(dim=1).mean()),
            donor=float((known.roll(-1, dims=0) * now_known).sum(dim=1).mean()),
            follows=follows,
            stays={other: _share(now[other] == was[other]) for other in contents if other != name},
        )
    return found


def _seen(judges: Judges, s: Tensor, contents: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
    """Identity ``(N, D)``, and which content of each keyword is seen, ``(N,)``."""
    identities, labels = [], []
    for part in s.split(_CHUNK):
        picture = judges.picture(part)
        identities.append(judges.identity(picture)[0])
        labels.append([d.argmax(dim=1) for d in judges.contents(picture, contents)])
    columns = [torch.cat(column) for column in zip(*labels, strict=True)]
    return torch.cat(identities), dict(zip(contents, columns, strict=True))


def _share(yes: Tensor) -> float:
    return float(yes.float().mean())
