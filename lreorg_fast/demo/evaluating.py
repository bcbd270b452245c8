"""What an evaluation on avatars needs: people whom no network has seen, and judges of avatars.

Everything about an avatar is known, so preservation is measured against the truth. The figures
say nothing about photographs.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lreorg_fast.avatars import ATTRIBUTE_NAMES, IDENTITY_TRAITS, Avatars, render, sample_people
from lreorg_fast.demo.figures import UNSEEN
from lreorg_fast.demo.judge import present
from lreorg_fast.errors import BundleError, ConfigError
from lreorg_fast.evaluation.attackers import Attackers, TrainedOnce
from lreorg_fast.evaluation.attacks.learning import FineTuned, Projected
from lreorg_fast.evaluation.figures import Floats
from lreorg_fast.evaluation.protocol import Indices, Judges, Labels
from lreorg_fast.faces.align import align_square
from lreorg_fast.faces.alignment import AVATARS, Alignment
from lreorg_fast.faces.detection import Detection
from lreorg_fast.keywords import DEFAULT_KEEP
from lreorg_fast.media.pictures import Picture, resized
from lreorg_fast.models import FaceBackbone
from lreorg_fast.models.pixels import to_tensor
from lreorg_fast.weights.bundle import Bundle, open_bundle
from lreorg_fast.weights.parts import load_part

# Those of the paper's tables, in their order. Others of METHODS can be named.
DEMO_METHODS: tuple[str, ...] = (
    *("original", "blur", "pixelate", "fill"),
    *("laplace", "k-anonymity", "lreorg", "lreorg-not-recovered"),
    # The paper's tables are about its own rule, the farthest content; a user gets `uniform`.
    *(f"lreorg+{name}-farthest" for name in DEFAULT_KEEP),
    *(f"lreorg+{name}-farthest-not-recovered" for name in DEFAULT_KEEP),
    *(f"hide-{name}-farthest" for name in DEFAULT_KEEP),
    *(f"lreorg+{name}" for name in DEFAULT_KEEP),
)
RECOGNIZERS = "identity:evaluation"  # and all parts whose name begins so
# Pictures that the parrot sees in training: about 25 s of one core for each method. With 1,800 of
# 80 people it found 6.7% of 500 blurred people.
_SEEN = 5_000
_CHUNK = 64
_KEPT_CHUNKS = 4
_MOST = 2_000_000  # pictures; their traits alone take 0.5 GB
_VERSION = "1"  # of how pictures are given to these judges
_SKIN = ("light", "medium", "dark")
_MISSING = {
    "fid": "Inception was trained on photographs; on avatars the attribute net's features stand in",
    "landmarks": "the avatars' judge knows no landmarks in outputs; it is measured on photographs",
}


class AvatarCollection:
    """``people`` avatars whom no network has seen, with ``pictures`` each; drawn when asked for.

    A :class:`lreorg_fast.evaluation.protocol.Collection`.

    Args:
        people, pictures: at least 1; the pictures of a person lie side by side.
        seed: of the people; other seeds are other people, and none is in any training set.
        size: side length in pixels.

    Raises:
        ConfigError: a number out of range.
    """

    domain = "avatars"

    def __init__(self, people: int, pictures: int, seed: int = 0, size: int = 64) -> None:
        for name, value, most in (
            ("people", people, _MOST),
            ("pictures", pictures, _MOST),
            ("people times pictures", people * pictures, _MOST),
            ("size", size, 1024),
        ):
            if not 1 <= value <= most:
                raise ConfigError(f"{name} is {value}, but must be 1 to {most}")
        if seed < 0:
            raise ConfigError(f"seed is {seed}, but must not be negative")
        self._size = size
        self._avatars = sample_people(
            people, pictures, torch.Generator().manual_seed(UNSEEN + seed)
        )
        self._key = f"avatar {_VERSION} {people} {pictures} {seed} {size}"
        self.name = f"{people} avatars, {pictures} pictures each, seed {seed}"
        self.names: Sequence[str] = [
            f"person_{i // pictures:05d}/{i % pictures:03d}.png" for i in range(len(self))
        ]
        self.subjects: Indices = np.arange(people, dtype=np.int64).repeat(pictures)
        truth = present(self._avatars.labels().double().numpy(), ATTRIBUTE_NAMES)
        self.attributes: Mapping[str, Labels] = {
            name: truth[:, i] for i, name in enumerate(ATTRIBUTE_NAMES)
        }
        self.groups: Mapping[str, Sequence[str]] = {
            "gender": _named(self.attributes["gender"], "female", "male"),
            "age": _named(self.attributes["age"], "old", "young"),
            "skin": _skin(self._avatars),
        }

    def __len__(self) -> int:
        return len(self._avatars)

    def __getstate__(self) -> dict[str, Any]:
        """Without the pictures that are kept: they are drawn again."""
        return {name: value for name, value in vars(self).items() if name != "_chunk"}

    def picture(self, index: int) -> Picture:
        """(size, size, 3) uint8 RGB; drawn with its neighbours, of which the last are kept."""
        return self._chunk(index // _CHUNK)[index % _CHUNK]

    def fingerprint(self, index: int) -> str:
        """Of what it is drawn from; nothing is drawn for it."""
        return f"{self._key} {index}"

    @functools.cached_property
    def _chunk(self) -> Callable[[int], list[Picture]]:
        return functools.lru_cache(_KEPT_CHUNKS)(self._draw)

    def _draw(self, chunk: int) -> list[Picture]:
        avatars = self._avatars[slice(chunk * _CHUNK, (chunk + 1) * _CHUNK)]
        drawn = (render(avatars, self._size) * 255).round().to(torch.uint8)
        return [np.ascontiguousarray(p) for p in drawn.permute(0, 2, 3, 1).numpy()]


def avatar_judges(bundle: str = "demo") -> Judges:
    """The judges of a bundle for avatars: none took part in training its CDFNet.

    Raises:
        BundleError: it is no bundle for avatars, or has no judges.
    """
    opened = open_bundle(bundle)
    if opened.manifest.domain.kind != AVATARS:
        raise BundleError(
            f"the bundle '{opened.manifest.name}' is for {opened.manifest.domain.kind} and cannot "
            "judge avatars; give folders of pictures to evaluate it"
        )
    names = [name for name in opened.manifest.parts if name.startswith(RECOGNIZERS)]
    if not names:
        raise BundleError(f"the bundle '{opened.manifest.name}' has no part '{RECOGNIZERS}'")
    reader = _AttributeNet(opened)
    return Judges(
        tuple(_AvatarRecognizer(opened, name) for name in names),
        reader,
        _AvatarFinder(reader),
        (_AvatarFeatures(reader),),
        {**_MISSING, **_few_recognizers(names)},
    )


def avatar_attackers(judges: Judges) -> Attackers:
    """The first recognizer goes on learning; on the others' embeddings a discriminant is fitted.

    Args:
        judges: of :func:`avatar_judges`.
    """
    first, *others = cast(Sequence[_AvatarRecognizer], judges.recognizers)
    reader = cast(_AttributeNet, judges.attributes)
    projected = [
        TrainedOnce(Projected(r.embed, f"{r.name}, discriminant", f"embeddings of {r.name}"))
        for r in others
    ]
    return Attackers(
        [TrainedOnce(first.learner()), *projected],
        reader.pooled,
        "the attribute net's last maps",
    )


def portrait_cut(bundle: str = "demo") -> Callable[[Picture, Detection], Picture]:
    """Cuts the portrait around a face out of a frame, as the bundle's judges want it.

    Five points put the square off by up to 15%, so embeddings spread more than on portraits.
    """
    domain = open_bundle(bundle).manifest.domain
    alignment = Alignment.of_domain(domain.kind, domain.alignment)

    def cut(picture: Picture, face: Detection) -> Picture:
        portrait = align_square(picture, alignment.quad(face.landmarks), domain.resolution)
        return np.asarray(portrait.image)

    return cut


class _Net:
    """A part of a bundle on pictures of any size, which it sees at its own."""

    def __init__(self, bundle: Bundle, part: str) -> None:
        self.net = cast(FaceBackbone, load_part(bundle, part))
        self._digest = bundle.manifest.files[bundle.part(part).file].sha256
        self._size = self.net.config.input_size

    def run(self, work: Callable[[Tensor], Tensor], pictures: Sequence[Picture]) -> Floats:
        """``work`` on (n, 3, S, S) in [-1, 1] -> (N, D) float64."""
        parts: list[NDArray[Any]] = []
        with torch.inference_mode():
            for start in range(0, len(pictures), _CHUNK):
                x = self.prepared(pictures[start : start + _CHUNK])
                parts.append(work(x).double().numpy())
        return np.concatenate(parts)

    def prepared(self, pictures: Sequence[Picture]) -> Tensor:
        """(N, 3, S, S) in [-1, 1]."""
        return to_tensor([resized(picture, (self._size, self._size)) for picture in pictures])

    def fingerprint(self, use: str) -> str:
        """Of the weights and what is done with them."""
        return hashlib.sha256(f"{_VERSION} {use} {self._digest}".encode()).hexdigest()


class _AvatarRecognizer:
    """A :class:`lreorg_fast.evaluation.protocol.Recognizer`: one part of the bundle."""

    def __init__(self, bundle: Bundle, part: str) -> None:
        self._net = _Net(bundle, part)
        self.name = part.removeprefix("identity:")
        self.description = (
            f"part '{part}' of the bundle '{bundle.manifest.name}', "
            f"{bundle.part(part).architecture}; trained on other avatars than those judged here, "
            "and not used in training CDFNet"
        )
        self.fingerprint = self._net.fingerprint("embed")

    def embed(self, pictures: Sequence[Picture]) -> Floats:
        """(N, D) unit embeddings."""
        return self._net.run(self._net.net, pictures)

    def learner(self) -> FineTuned:
        """This network, which goes on learning from where it is."""
        return FineTuned(
            self._net.net,
            self._net.prepared,
            f"{self.name}, trained on",
            self.description,
            seen=_SEEN,
        )


class _AttributeNet:
    """An :class:`lreorg_fast.evaluation.protocol.AttributeReader`: the bundle's own net."""

    names: Sequence[str] = DEFAULT_KEEP
    description = "the bundle's attribute net, which only evaluation uses"

    def __init__(self, bundle: Bundle) -> None:
        self._net = _Net(bundle, "attributes")
        self._mean, self._deviation = (
            np.array([bundle.calibrated(f"attributes.{name}.{which}") for name in ATTRIBUTE_NAMES])
            for which in ("mean", "deviation")
        )
        self.face_logit = bundle.calibrated("verify.face")
        self.fingerprint = self._net.fingerprint(f"read {','.join(self.names)}")

    def read(self, pictures: Sequence[Picture]) -> Labels:
        """(N, 4) whether each attribute is present."""
        values = self._outputs(pictures)[:, :-1] * self._deviation + self._mean
        return present(values, self.names)

    def shows_face(self, pictures: Sequence[Picture]) -> Labels:
        """(N,) whether it says that there is a face."""
        labels: Labels = self._outputs(pictures)[:, -1] > self.face_logit
        return labels

    def pooled(self, pictures: Sequence[Picture]) -> Floats:
        """(N, D) its last maps, averaged over the picture."""
        net = self._net.net
        return self._net.run(lambda x: net.features(x)[-1].float().mean(dim=(2, 3)), pictures)

    def fingerprint_of(self, use: str) -> str:
        """For another use of the same net."""
        return self._net.fingerprint(use)

    def _outputs(self, pictures: Sequence[Picture]) -> Floats:
        return self._net.run(self._net.net, pictures)


class _AvatarFinder:
    """A :class:`lreorg_fast.evaluation.protocol.FaceFinder` without landmarks."""

    def __init__(self, net: _AttributeNet) -> None:
        self._net = net
        self.description = "the face logit of the bundle's attribute net"
        self.fingerprint = net.fingerprint_of(f"face above {net.face_logit:.6g}")

    def find(self, pictures: Sequence[Picture]) -> tuple[Labels, Floats | None]:
        return self._net.shows_face(pictures), None


class _AvatarFeatures:
    """A :class:`lreorg_fast.evaluation.protocol.FeatureNet` that stands in for Inception."""

    metric = "feature_distance"
    convention = "attribute net, pooled"

    def __init__(self, net: _AttributeNet) -> None:
        self._net = net
        self.fingerprint = net.fingerprint_of("pooled")

    def features(self, pictures: Sequence[Picture]) -> Floats:
        return self._net.pooled(pictures)


def _few_recognizers(names: Sequence[str]) -> dict[str, str]:
    if len(names) > 1:
        return {}
    return {"recognizers": f"the bundle has one recognizer for evaluation, '{names[0]}'"}


def _named(labels: Labels, yes: str, no: str) -> list[str]:
    return [yes if label else no for label in labels]


def _skin(avatars: Avatars) -> list[str]:
    """Thirds of the trait, which goes from light to dark."""
    trait = avatars.identity[:, IDENTITY_TRAITS.index("skin")]
    thirds = ((trait + 1) / 2 * len(_SKIN)).long().clamp(max=len(_SKIN) - 1)
    return [_SKIN[int(third)] for third in thirds]
