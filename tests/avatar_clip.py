"""CLIP for avatars without open_clip: the demo bundle's keyword features and attribute network.

Keyword names get the features that the demo's CDFNet was trained with; a sentence is a direction
among the attributes, and a picture is its attributes. That is what CLIP means to the tables.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lreorg_fast.avatars.traits import ATTRIBUTE_NAMES
from lreorg_fast.keywords import KEYWORDS
from lreorg_fast.weights import open_bundle
from lreorg_fast.weights.parts import load_part


class AvatarClip:
    """As :class:`lreorg_fast.training.tables.ClipModel`, features of 64 numbers."""

    def __init__(self) -> None:
        demo = open_bundle("demo")
        tables = demo.tensors("tables")
        self._known = {name: tables[f"keyword.{name}"].float() for name in KEYWORDS}
        self._attributes = load_part(demo, "attributes")
        for keyword in KEYWORDS.values():
            for position, sentence in enumerate(keyword.sentences):
                direction = torch.zeros(64)
                axis = ATTRIBUTE_NAMES.index(keyword.name)
                direction[axis] = 1.0 if position % 2 == 0 else -1.0
                if position >= 2:  # the second pair of hair colours
                    direction[axis + 20] = 1.0 if position == 2 else -1.0
                self._known[sentence] = F.normalize(direction, dim=0)

    def text(self, sentences: list[str]) -> Tensor:
        return torch.stack([self._known[sentence] for sentence in sentences])

    def image(self, x: Tensor) -> Tensor:
        values = self._attributes(x)[:, :-1]
        features = torch.zeros(len(x), 64)
        features[:, : values.shape[1]] = values
        features[:, 20 : 20 + values.shape[1]] = values.roll(1, 0) - values
        return F.normalize(features, dim=1)
