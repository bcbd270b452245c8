"""Keywords of a photograph, and the avatar among several that shares them.

Two CLIP models with the same sentences: the user's sees photographs, the bundle's own sees the
pictures of its generator, on which it was trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lreorg_fast.errors import ConfigError, PrivacyError
from lreorg_fast.keywords import Keyword, check_selection

# A probability below this counts as this one, so that one keyword cannot outvote all the others.
_LEAST = 1e-3


class PhotographAttributes:
    """Carries contents of keywords from photographs over to pictures of a generator.

    Args:
        photographs: a :class:`lreorg_fast.weights.clip.Clip` for the source.
        portraits: one for the generator's pictures.
        keywords: by name; those without contents, such as identity, cannot be carried over.
    """

    def __init__(self, photographs: Any, portraits: Any, keywords: Mapping[str, Keyword]) -> None:
        self._photographs, self._portraits = photographs, portraits
        self._keywords = keywords

    @property
    def size(self) -> int:
        """Side length in pixels of the face pictures that :meth:`of_photograph` wants."""
        return int(self._photographs.image_size)

    def check(self, names: Sequence[str]) -> None:
        """Refuse names that cannot be carried over.

        Raises:
            ConfigError: unknown, named twice, or without contents.
        """
        carried = [name for name, keyword in self._keywords.items() if keyword.contents]
        check_selection((), names, carried)

    def of_photograph(self, face: Tensor, names: Sequence[str]) -> dict[str, int]:
        """Keyword to the index of its content that fits a face ``(3, S, S)`` in [-1, 1] best.

        Raises:
            PrivacyError: the model gave no numbers.
        """
        x = face[None].cpu()
        return {name: int(self._shares(self._photographs, x, name)[0].argmax()) for name in names}

    def nearest(self, portraits: Tensor, wanted: Mapping[str, int]) -> int:
        """Index of the portrait ``(N, 3, R, R)`` in [-1, 1] that has most of the contents.

        Raises:
            PrivacyError: the model gave no numbers.
        """
        score = torch.zeros(len(portraits))
        for name, content in wanted.items():
            shares = self._shares(self._portraits, portraits.cpu(), name)
            score += shares[:, content].clamp(min=_LEAST).log()
        return int(score.argmax())

    def _shares(self, clip: Any, pictures: Tensor, name: str) -> Tensor:
        keyword = self._keywords[name]
        if not keyword.contents:
            raise ConfigError(f"the keyword '{name}' has no contents that could be carried over")
        with torch.inference_mode():
            shares: Tensor = clip.classify(pictures, list(keyword.sentences))
        if not bool(torch.isfinite(shares).all()):
            raise PrivacyError(f"the CLIP model gave no finite numbers for '{name}'")
        return shares
