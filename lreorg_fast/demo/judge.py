"""The demo's independent judges: networks that took no part in training CDFNet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lreorg_fast.avatars import ATTRIBUTES
from lreorg_fast.errors import ConfigError
from lreorg_fast.media.pictures import Picture
from lreorg_fast.models.pixels import to_tensor
from lreorg_fast.weights.bundle import Bundle
from lreorg_fast.weights.parts import load_part

_CHUNK = 64
_IDENTITY = "identity:"
FIRST = "evaluation"
Floats = NDArray[np.float64]


def recognizers_of(bundle: Bundle) -> tuple[str, ...]:
    """Names of the recognizers that only judge: ``evaluation``, ``evaluation-2``, ..."""
    names = [r.removeprefix(_IDENTITY) for r in bundle.manifest.parts if r.startswith(_IDENTITY)]
    return tuple(name for name in names if name.startswith(FIRST))


class Judge:
    """Recognizes people and reads attributes on 64 px pictures ``(64, 64, 3)`` uint8.

    Args:
        bundle: a demo bundle.
        recognizer: one of :func:`recognizers_of`. ``evaluation`` has other people, another margin
            and another shape than the one in CDFNet's losses; ``evaluation-2`` differs from both
            in these, and sees nothing but the inner face.

    The attribute net also says whether there is a face.

    Attributes:
        random, hard: thresholds at a false accept rate of 0.001 over random pairs of strangers,
            and over strangers of about the same skin and eyes.

    Raises:
        ConfigError: the recognizer takes part in training.
        BundleError: the bundle has none of this name, or no thresholds of it.
    """

    def __init__(self, bundle: Bundle, recognizer: str = FIRST) -> None:
        if not recognizer.startswith(FIRST):
            raise ConfigError(
                f"the recognizer '{recognizer}' does not only judge; take one of "
                f"{', '.join(recognizers_of(bundle))}"
            )
        self._recognizer = load_part(bundle, _IDENTITY + recognizer)
        self.random = bundle.calibrated(f"{recognizer}.threshold.random")
        self.hard = bundle.calibrated(f"{recognizer}.threshold.hard")
        self._attributes = load_part(bundle, "attributes")
        self._mean, self._deviation = (
            np.array([bundle.calibrated(f"attributes.{a.name}.{which}") for a in ATTRIBUTES])
            for which in ("mean", "deviation")
        )
        self._face_logit = bundle.calibrated("verify.face")

    def embed(self, pictures: Sequence[Picture]) -> Floats:
        """Unit embeddings ``(N, D)``."""
        return self._run(self._recognizer, pictures)

    def read(self, pictures: Sequence[Picture]) -> tuple[Floats, NDArray[np.bool_]]:
        """Attribute values ``(N, 10)`` as in :data:`ATTRIBUTES`, and whether there is a face."""
        outputs = self._run(self._attributes, pictures)
        values = outputs[:, :-1] * self._deviation + self._mean
        return values, outputs[:, -1] > self._face_logit

    def _run(self, net: nn.Module, pictures: Sequence[Picture]) -> Floats:
        starts = range(0, len(pictures), _CHUNK)
        with torch.inference_mode():
            parts = [net(to_tensor(pictures[start : start + _CHUNK])) for start in starts]
        return torch.cat(parts).double().numpy()


def present(values: Floats, names: Sequence[str]) -> NDArray[np.bool_]:
    """Attribute values ``(N, 10)`` -> whether each of ``names`` is present, ``(N, len(names))``."""
    table = {a.name: (i, a.threshold) for i, a in enumerate(ATTRIBUTES)}
    columns = [values[:, table[name][0]] > table[name][1] for name in names]
    return np.stack(columns, axis=1)
