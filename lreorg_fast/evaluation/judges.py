"""Judges for photographs: published recognizers, a detector, a CLIP model and FID's Inception.

The weights are a user's files or entries of the registry (``lreorg weights list``). Nothing is
downloaded here. What is asked for and not there is an error; what is merely not there is named in
:attr:`lreorg_fast.evaluation.protocol.Judges.missing` with the way to get it.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lreorg_fast.errors import CheckpointError, ConfigError, LReorgError
from lreorg_fast.evaluation.fid import CONVENTIONS, prepare_pictures
from lreorg_fast.evaluation.figures import Floats
from lreorg_fast.evaluation.protocol import (
    AttributeReader,
    FeatureNet,
    Judges,
    Labels,
    Recognizer,
)
from lreorg_fast.faces.align import align_square
from lreorg_fast.faces.alignment import fitted_square
from lreorg_fast.faces.detection import DEFAULT_DETECTOR, Detection, Detector, load_detector
from lreorg_fast.keywords import KEYWORDS
from lreorg_fast.media.pictures import Picture
from lreorg_fast.weights.cache import cached, expected_sha256, sha256_of
from lreorg_fast.weights.registry import PublishedFile, published_files

if TYPE_CHECKING:
    from torch import Tensor

    from lreorg_fast.models import FidInception
    from lreorg_fast.weights.clip import Clip
    from lreorg_fast.weights.identity import IdentityNet

RECOGNIZER_SIZE = 112
# Where ArcFace's training put five points in its 112 pixels (deepinsight/insightface,
# python-package/insightface/utils/face_align.py): eyes, nose, corners of the mouth.
ARCFACE_POINTS = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]
)
# What counts as present, of the contents of each keyword; as the avatars' labels have it.
PRESENT: Mapping[str, str] = {
    "gender": "female",
    "age": "old",
    "expression": "smiling",
    "makeup": "heavy",
}
THRESHOLD = 0.5  # of the detector
_CHUNK = 16
_REMEMBERED = 64
_FID = "fid-inception"
_CLIPS = {"clip-vit-b32-openai": "ViT-B-32-quickgelu", "clip-vit-b32-laion2b": "ViT-B-32"}
_VERSION = "1"  # of how pictures are prepared here; answers that were kept are of one version


@dataclass(frozen=True)
class JudgeChoices:
    """Which judges look at photographs; None takes what is there.

    Args:
        recognizers: names of the registry (purpose "identity") or files, at least one; None is
            every one of the registry that is in the cache.
        clip: model name of open_clip (or a folder) and, for a name, the file of its weights; None
            is the registry's, if it is in the cache.
        inception: file; None is the registry's, if it is in the cache.
        detector: as :func:`lreorg_fast.faces.load_detector` takes it.
        device: where the networks run.

    Raises:
        ConfigError: no recognizers in a list of them, or one twice.
    """

    recognizers: tuple[str, ...] | None = None
    clip: tuple[str, str | None] | None = None
    inception: str | None = None
    detector: str = DEFAULT_DETECTOR
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.recognizers is not None and not self.recognizers:
            raise ConfigError("no recognizer is named; name one, or leave the list out")
        if self.recognizers is not None and len(set(self.recognizers)) < len(self.recognizers):
            raise ConfigError(f"a recognizer is named twice among {', '.join(self.recognizers)}")


def photograph_judges(choices: JudgeChoices | None = None) -> Judges:
    """The judges of ``choices``, with the reason for each that is missing.

    Raises:
        CheckpointError, ConfigError, MissingExtra: what was named cannot be used.
    """
    chosen = choices or JudgeChoices()
    missing: dict[str, str] = {}
    faces = _finder(chosen, missing)
    recognizers = () if faces is None else _recognizers(chosen, faces, missing)
    return Judges(
        recognizers,
        _attributes(chosen, faces, missing),
        faces,
        _features(chosen, missing),
        missing,
    )


class DetectedFaces:
    """A :class:`FaceFinder`: the largest face of a picture, as a detector sees it.

    Args:
        detector: finds faces.
        description: for the report.
        fingerprint: of the detector's weights.
    """

    def __init__(self, detector: Detector, description: str, fingerprint: str) -> None:
        self._detector = detector
        self.description = description
        self.fingerprint = fingerprint
        # Every recognizer asks about the same pictures one after the other.
        self._known: OrderedDict[int, tuple[Picture, Detection | None]] = OrderedDict()

    def face(self, picture: Picture) -> Detection | None:
        """The largest face whose score is at least .5."""
        known = self._known.get(id(picture))
        if known is not None and known[0] is picture:
            return known[1]
        faces = self._detector(picture, THRESHOLD)
        face = max(faces, key=lambda found: found.size, default=None)
        self._known[id(picture)] = (picture, face)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return face

    def find(self, pictures: Sequence[Picture]) -> tuple[Labels, Floats | None]:
        """See :class:`FaceFinder`."""
        faces = [self.face(picture) for picture in pictures]
        nowhere = np.full((5, 2), np.nan)
        landmarks = np.array([nowhere if face is None else face.landmarks for face in faces])
        return np.array([face is not None for face in faces], dtype=bool), landmarks


class AlignedRecognizer:
    """A :class:`Recognizer` that sees each picture's largest face as ArcFace aligns it.

    Args:
        net: from :func:`lreorg_fast.weights.load_identity`.
        faces: finds them.
        name, description: for the report.
        fingerprint: of the weights.
    """

    def __init__(
        self,
        net: IdentityNet,
        faces: DetectedFaces,
        name: str,
        description: str,
        fingerprint: str,
        device: str = "cpu",
    ) -> None:
        self._net, self._faces, self._device = net, faces, device
        self.name, self.description = name, description
        self.fingerprint = _digest("recognizer", fingerprint, faces.fingerprint)
        self._size = net.config.input_size
        blank = np.zeros((self._size, self._size, 3), dtype=np.uint8)
        self._dim = _in_chunks(self._embedded, [blank]).shape[1]

    def embed(self, pictures: Sequence[Picture]) -> Floats:
        """See :class:`Recognizer`."""
        crops = [self._crop(picture) for picture in pictures]
        embeddings = np.full((len(pictures), self._dim), np.nan)
        seen = [i for i, crop in enumerate(crops) if crop is not None]
        if seen:
            shown = [crop for crop in crops if crop is not None]
            embeddings[seen] = _in_chunks(self._embedded, shown)
        return embeddings

    def _crop(self, picture: Picture) -> Picture | None:
        face = self._faces.face(picture)
        return None if face is None else arcface_crop(picture, face.landmarks, self._size)

    def _embedded(self, crops: Sequence[Picture]) -> Tensor:
        import torch.nn.functional as F

        from lreorg_fast.models.pixels import to_tensor

        return F.normalize(self._net(to_tensor(crops).to(self._device)).float(), dim=1)


def arcface_crop(
    picture: Picture, landmarks: Floats, size: int = RECOGNIZER_SIZE
) -> Picture | None:
    """The face as recognizers were trained on it, or None if the points make no face.

    A similarity brings the five points to ArcFace's. Unlike insightface, which samples bilinearly
    and pads with black, large faces are reduced without aliasing and the border is mirrored.

    Args:
        picture: (H, W, 3) uint8 RGB.
        landmarks: (5, 2) pixels.
        size: side length of the result in pixels.
    """
    try:
        # Both have a pixel's centre at whole numbers, and a picture begins half a pixel before.
        quad = fitted_square((ARCFACE_POINTS + 0.5) / RECOGNIZER_SIZE, landmarks)
        return align_square(picture, quad, size).image
    except ConfigError:  # all points in one place, a face of under 2 pixels
        return None


class ClipAttributes:
    """An :class:`AttributeReader`: which of a keyword's sentences a CLIP model finds fitting.

    Zero-shot answers are biased; the same bias is in the answers about originals, which is what
    they are compared with where the truth is not known.

    Args:
        clip: the model.
        faces: pictures are cut to the face as FFHQ is; None looks at whole pictures, and so does a
            picture without a face.
        description: for the report.
        fingerprint: of the weights.
    """

    names = tuple(PRESENT)

    def __init__(
        self, clip: Clip, faces: DetectedFaces | None, description: str, fingerprint: str
    ) -> None:
        self._clip, self._faces = clip, faces
        self.description = description
        found_by = "" if faces is None else faces.fingerprint
        self.fingerprint = _digest("attributes", fingerprint, found_by)

    def read(self, pictures: Sequence[Picture]) -> Labels:
        """See :class:`AttributeReader`."""
        labels: Labels = _in_chunks(self._present, [self._portrait(p) for p in pictures]) > 0
        return labels

    def _portrait(self, picture: Picture) -> Picture:
        from lreorg_fast.faces.align import ffhq_quad
        from lreorg_fast.media.pictures import resized

        size = self._clip.image_size
        face = None if self._faces is None else self._faces.face(picture)
        if face is not None:
            try:
                return align_square(picture, ffhq_quad(face.landmarks), size).image
            except ConfigError:
                pass  # points that make no face
        return resized(picture, (size, size))

    def _present(self, portraits: Sequence[Picture]) -> Tensor:
        import torch

        from lreorg_fast.models.pixels import to_tensor

        x = to_tensor(portraits).to(self._clip.device)
        columns = []
        for name, content in PRESENT.items():
            keyword = KEYWORDS[name]
            shares = self._clip.classify(x, list(keyword.sentences))
            columns.append(shares.argmax(dim=1) == keyword.contents.index(content))
        return torch.stack(columns, dim=1)


class InceptionFeatures:
    """A :class:`FeatureNet` of FID under one convention."""

    metric = "fid"

    def __init__(self, network: FidInception, convention: str, fingerprint: str) -> None:
        self._network = network
        self.convention = convention
        self.fingerprint = _digest("inception", convention, fingerprint)

    def features(self, pictures: Sequence[Picture]) -> Floats:
        """(N, 2048); pictures of different sizes are prepared one by one."""
        parts = [_in_chunks(self._of, same) for same in _runs_of_one_size(pictures)]
        return np.concatenate(parts)

    def _of(self, pictures: Sequence[Picture]) -> Tensor:
        import torch

        device = next(self._network.parameters()).device
        x = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).to(device)
        return self._network.features(prepare_pictures(x, self.convention), 2048)


# ---- what is there, and what is not


def _finder(choices: JudgeChoices, missing: dict[str, str]) -> DetectedFaces | None:
    try:
        detector = load_detector(choices.detector)
    except LReorgError as error:
        if choices.detector != DEFAULT_DETECTOR:
            raise
        missing["finder"] = missing["recognizers"] = str(error)
        return None
    own = choices.detector == DEFAULT_DETECTOR
    digest = DEFAULT_DETECTOR if own else sha256_of(Path(choices.detector))
    description = f"{Path(choices.detector).name}, score at least {THRESHOLD}, the largest face"
    return DetectedFaces(detector, description, _digest("finder", digest))


def _recognizers(
    choices: JudgeChoices, faces: DetectedFaces, missing: dict[str, str]
) -> tuple[Recognizer, ...]:
    entries = {n: e for n, e in published_files().items() if e.purpose == "identity"}
    if choices.recognizers is not None:
        return tuple(_recognizer(name, entries, faces, choices) for name in choices.recognizers)
    here = [name for name in entries if cached(name) is not None]
    if len(here) < 2:
        missing["recognizers"] = (
            f"{len(here) or 'none'} of the {len(entries)} published recognizers is here and two or "
            f"more are wanted; see them with: lreorg weights list, or name files with --recognizer"
        )
    return tuple(_recognizer(name, entries, faces, choices) for name in here)


def _recognizer(
    source: str,
    entries: Mapping[str, PublishedFile],
    faces: DetectedFaces,
    choices: JudgeChoices,
) -> AlignedRecognizer:
    from lreorg_fast.weights.identity import load_identity

    entry = entries.get(source)
    path = _here(entry) if entry is not None else Path(source)
    net = load_identity(path).to(choices.device)
    title = f"{entry.title}; {entry.paper}" if entry is not None else f"from the file {path.name}"
    name = source if entry is not None else path.stem
    return AlignedRecognizer(net, faces, name, title, _sha256(path, entry), choices.device)


def _attributes(
    choices: JudgeChoices, faces: DetectedFaces | None, missing: dict[str, str]
) -> AttributeReader | None:
    from lreorg_fast.weights.clip import load_clip

    if choices.clip is not None:
        name, weights = choices.clip
        clip = load_clip(name, weights).to(choices.device)
        digest = sha256_of(Path(weights or Path(name) / "open_clip_model.safetensors"))
        return ClipAttributes(clip, faces, f"CLIP {Path(name).name}, zero-shot", digest)
    here = [name for name in _CLIPS if cached(name) is not None]
    if not here:
        missing["attributes"] = (
            "no CLIP model is here to read attributes with; "
            f"{published_files()[next(iter(_CLIPS))].how_to_get_it}"
        )
        return None
    entry = published_files()[here[0]]
    try:
        clip = load_clip(_CLIPS[entry.name], _here(entry)).to(choices.device)
    except LReorgError as error:
        missing["attributes"] = str(error)
        return None
    digest = _sha256(_here(entry), entry)
    return ClipAttributes(clip, faces, f"{entry.title}, zero-shot", digest)


def _features(choices: JudgeChoices, missing: dict[str, str]) -> tuple[FeatureNet, ...]:
    from lreorg_fast.weights.inception import load_inception

    entry = published_files()[_FID]
    if choices.inception is None and cached(_FID) is None:
        missing["fid"] = f"FID's Inception is not here; {entry.how_to_get_it}"
        return ()
    path = Path(choices.inception) if choices.inception is not None else _here(entry)
    network = load_inception(path).to(choices.device)
    digest = _sha256(path, None if choices.inception is not None else entry)
    return tuple(InceptionFeatures(network, name, digest) for name in CONVENTIONS)


def _here(entry: PublishedFile) -> Path:
    path = cached(entry.name)
    if path is None:
        raise CheckpointError(f"'{entry.name}' is not here; {entry.how_to_get_it}")
    return path


def _sha256(path: Path, entry: PublishedFile | None) -> str:
    known = None if entry is None else expected_sha256(entry)
    return known or sha256_of(path)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join((_VERSION, *parts)).encode()).hexdigest()


def _in_chunks(work: Callable[[Sequence[Picture]], Tensor], pictures: Sequence[Picture]) -> Any:
    """Rows of all pictures, float64, a few at a time."""
    import torch

    parts: list[NDArray[np.float64]] = []
    with torch.inference_mode():
        for start in range(0, len(pictures), _CHUNK):
            parts.append(work(pictures[start : start + _CHUNK]).cpu().double().numpy())
    return np.concatenate(parts)


def _runs_of_one_size(pictures: Sequence[Picture]) -> list[list[Picture]]:
    runs: list[list[Picture]] = []
    for picture in pictures:
        if runs and runs[-1][0].shape == picture.shape:
            runs[-1].append(picture)
        else:
            runs.append([picture])
    return runs
