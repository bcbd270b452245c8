"""Who is judged and who judges: the shapes that data sets, methods, judges and measures share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lreorg_fast.evaluation.figures import Floats
from lreorg_fast.media.pictures import Picture

Labels = NDArray[np.bool_]
Indices = NDArray[np.int64]


class Pictures(Protocol):
    """N pictures that are read one at a time: originals, or one method's outputs for them."""

    def __len__(self) -> int: ...

    def picture(self, index: int) -> Picture | None:
        """(H, W, 3) uint8 RGB; None where a method released nothing."""

    def fingerprint(self, index: int) -> str:
        """Changes when the picture does; without reading its pixels where that is possible."""


class Collection(Pictures, Protocol):
    """Originals of known people."""

    @property
    def name(self) -> str: ...
    @property
    def domain(self) -> str:
        """ "avatars" or "photographs"."""

    @property
    def names(self) -> Sequence[str]:
        """N different names, such as paths below the folder."""

    @property
    def subjects(self) -> Indices:
        """(N,) number of the person on each picture."""

    @property
    def attributes(self) -> Mapping[str, Labels]:
        """True attributes (N,) by name where they are known; may be empty."""

    @property
    def groups(self) -> Mapping[str, Sequence[str]]:
        """Labels (N,) of subgroups by the name of the division, such as {"gender": [...]}."""


class Recognizer(Protocol):
    """Tells people apart."""

    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str:
        """What it is and what it was trained on: in particular whether the method was as well."""

    @property
    def fingerprint(self) -> str:
        """Changes when the answers may, such as with the weights; answers are kept under it."""

    def embed(self, pictures: Sequence[Picture]) -> Floats:
        """(N, D) unit embeddings; a row of NaN where no face was found to look at."""


class AttributeReader(Protocol):
    """Reads attributes off a face."""

    @property
    def names(self) -> Sequence[str]: ...
    @property
    def description(self) -> str: ...

    @property
    def fingerprint(self) -> str:
        """Changes when the answers may, such as with the weights; answers are kept under it."""

    def read(self, pictures: Sequence[Picture]) -> Labels:
        """(N, len(names)) whether each attribute is present."""


class FaceFinder(Protocol):
    """Says whether there is a face, and where."""

    @property
    def description(self) -> str: ...

    @property
    def fingerprint(self) -> str:
        """Changes when the answers may, such as with the weights; answers are kept under it."""

    def find(self, pictures: Sequence[Picture]) -> tuple[Labels, Floats | None]:
        """(N,) whether a face was found; (N, 5, 2) landmarks in pixels, NaN without a face, or
        None if it knows no landmarks."""


class FeatureNet(Protocol):
    """Features whose distribution is compared, such as Inception's."""

    @property
    def metric(self) -> str:
        """``fid`` or ``feature_distance``."""

    @property
    def convention(self) -> str:
        """How pictures are prepared, such as "pytorch-fid"."""

    @property
    def fingerprint(self) -> str:
        """Changes when the answers may, such as with the weights; answers are kept under it."""

    def features(self, pictures: Sequence[Picture]) -> Floats:
        """(N, D)."""


@dataclass(frozen=True)
class Judges:
    """Everything that looks at pictures; what is missing has its reason in ``missing``.

    Attributes:
        recognizers: never used in training the judged method where that can be known.
        attributes, finder: None if there is none.
        features: none, one or two conventions.
        missing: "attributes", "finder", "fid", ... to why, in one sentence with the remedy.
    """

    recognizers: tuple[Recognizer, ...]
    attributes: AttributeReader | None = None
    finder: FaceFinder | None = None
    features: tuple[FeatureNet, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Observed:
    """What the judges said of N pictures; all that the measures need.

    Attributes:
        released: (N,) whether there is a picture at all.
        embeddings: by recognizer's name (N, D); NaN rows where nothing was seen.
        attributes: (N, A) in the reader's order, or None; False rows where nothing was released.
        found: (N,) whether the finder saw a face; ``released`` where there is no finder.
        landmarks: (N, 5, 2) or None.
        statistics: by convention: (mean (D,), covariance (D, D), n) of released pictures.
    """

    released: Labels
    embeddings: Mapping[str, Floats]
    attributes: Labels | None
    found: Labels
    landmarks: Floats | None
    statistics: Mapping[str, tuple[Floats, Floats, int]]
