"""The whole way of a face: encode, anonymize, recover, render, verify.

Fail closed: a face leaves as a new face that was verified, or as a solid colour. There is no
path on which the pixels of the source reach the result.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lreorg_fast.cdfnet import Engine
from lreorg_fast.errors import BundleError, ConfigError, LReorgError
from lreorg_fast.keywords import DEFAULT_HIDE, Keyword
from lreorg_fast.log import logger
from lreorg_fast.media.pictures import (
    FILL_COLOUR,
    Picture,
    checked_pictures,
    is_single,
    resized,
)
from lreorg_fast.models.pixels import to_pictures, to_tensor
from lreorg_fast.models.views import at_size
from lreorg_fast.privacy import (
    DEFAULT_MECHANISM,
    Codebook,
    Ledger,
    Replacement,
)
from lreorg_fast.privacy.randomness import Sampler, check_tracks
from lreorg_fast.result import FaceResult, RecoveryKey, Result
from lreorg_fast.runtimes import Request, start
from lreorg_fast.settings import IDENTITY, FeatureAnonymizer, ResolvedSettings, Settings
from lreorg_fast.verification import Verification
from lreorg_fast.weights.bundle import Bundle, open_bundle
from lreorg_fast.weights.parts import load_part

if TYPE_CHECKING:  # of rooms above, which :meth:`Anonymizer.video` and `stream` open
    from lreorg_fast.faces import Detector
    from lreorg_fast.live import Shown, StreamSettings, Tracker
    from lreorg_fast.privacy import Subjects
    from lreorg_fast.scene import SceneSettings
    from lreorg_fast.sealing import Sealer
    from lreorg_fast.video import VideoReport, VideoSettings
    from lreorg_fast.video.anonymizer import Progress

# Changes the latents (num_ws, dim) of a track before they are reorganized, for example over time.
LatentFilter = Callable[[str, Tensor], Tensor]
# Faces and pixels that run through the networks together: they bound memory however many faces
# are passed in. 32 faces of 256 pixels, 2 of 1024.
_MOST_FACES, _MOST_PIXELS = 32, 32 * 256**2


@dataclass
class _Face:
    """One face on its way through the pipeline."""

    index: int
    track: str
    original: Tensor  # at the generator's resolution
    seen: Tensor  # at the encoder's, resized from the same picture
    own: ResolvedSettings | None = None  # with the draws of a pseudonym
    reason: str | None = None
    replacements: dict[str, Replacement] | None = None
    key: RecoveryKey | None = None
    features: Tensor | None = None  # the recognizer's, of the original
    similarity: float | None = None
    output: Tensor | None = None


class Anonymizer:
    """Anonymizes aligned faces with the networks of one bundle.

    Made by :meth:`load`. Safe to share between threads; ``ledger`` counts what every person-track
    has cost since it was made, ``precision`` is that of the generator (on a CPU the encoder too).
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str | torch.device = "cpu",
        backend: str = "auto",
        dtype: str = "bfloat16",
        precision: str = "auto",
        runtime: str = "torch",
        ledger: Ledger | None = None,
    ) -> None:
        self.bundle = bundle
        self.device = _checked_device(device)
        self.ledger = ledger if ledger is not None else Ledger()
        tables = bundle.tensors("tables")
        self.keywords: dict[str, Keyword] = {k.name: k for k in bundle.manifest.keywords}
        self.codebook = Codebook(
            _table(tables, "codebook.means").numpy(), _table(tables, "codebook.members").numpy()
        )
        self._means = {
            name: _table(tables, f"attribute.{name}.means").numpy()
            for name, keyword in self.keywords.items()
            if keyword.contents
        }
        features = {n: _table(tables, f"keyword.{n}").to(self.device) for n in self.keywords}
        running = start(runtime, Request(bundle, features, self.device, backend, dtype, precision))
        self.runtime = runtime
        self.precision = running.precision
        self.encoder, self.generator = running.encoder, running.generator
        self.engine: Engine = running.engine
        self.verification = Verification(bundle, self._part, self.encoder, self.generator)
        self._numbers = itertools.count()

    @classmethod
    def load(
        cls,
        bundle: str | Path = "demo",
        *,
        device: str | torch.device = "cpu",
        backend: str = "auto",
        dtype: str = "bfloat16",
        precision: str = "auto",
        runtime: str = "torch",
        ledger: Ledger | None = None,
    ) -> Anonymizer:
        """Open a bundle folder, or the packaged one by the name ``"demo"``.

        Args:
            bundle: folder, or ``"demo"`` (avatars, 64 px).
            device: where the networks run, for example ``"cpu"`` or ``"cuda:0"``.
            backend, dtype: of the coupling engine, see :func:`lreorg_fast.compile`.
            precision: of the generator and, on a CPU, the encoder: ``float32``, ``bfloat16`` or
                ``auto``, see :func:`lreorg_fast.models.inference.network_dtype`. All other
                networks run in float32 with each.
            runtime: what runs encoder, reorganization and generator: ``torch``, or ``onnx``:
                what :func:`lreorg_fast.export.onnx` writes, in onnxruntime on the CPU, with
                precision ``float32`` (``auto``) or ``float16``. Draws and checks are the same.
            ledger: counts epsilon per track; a new one without a budget if None.

        Raises:
            BundleError: the bundle is missing, damaged or incomplete.
            ConfigError, BackendUnavailable: device, backend, dtype, precision or runtime cannot be
                used here.
            MissingExtra: runtime ``onnx`` without onnx or onnxruntime.
        """
        return cls(
            open_bundle(bundle),
            device=device,
            backend=backend,
            dtype=dtype,
            precision=precision,
            runtime=runtime,
            ledger=ledger,
        )

    @property
    def resolution(self) -> int:
        """Side length in pixels of the faces that the generator makes."""
        resolution: int = self.generator.resolution
        return resolution

    def resolve(self, settings: Settings, sampler: Sampler | None = None) -> ResolvedSettings:
        """Check settings against this bundle before any picture is read.

        Raises:
            ConfigError: they are not what :meth:`__call__` describes.
        """
        return settings.resolve(self.keywords, self.codebook, self._means, sampler)

    def __call__(
        self,
        images: Any,
        *,
        hide: Iterable[str] = DEFAULT_HIDE,
        keep: Iterable[str] | None = None,
        epsilon: float | None = None,
        mechanism: str = DEFAULT_MECHANISM,
        attribute_rule: str | None = None,
        attribute_epsilon: float | None = None,
        tracks: Sequence[str] | None = None,
        recovery: bool = False,
        sampler: Sampler | None = None,
        latent_filter: LatentFilter | None = None,
    ) -> Result:
        """Anonymize one aligned face picture, or several.

        Args:
            images: (H, W, 3) uint8 RGB numpy or a PIL image, square and aligned; or a list of
                them, or (N, H, W, 3). Other sizes than :attr:`resolution` are resized, and the
                result is resized back.
            hide: keywords to anonymize, in order.
            keep: keywords to recover from the original, in order; by default gender, age,
                expression and makeup without those that are hidden.
            epsilon: of the identity draw, in [0, 20]; None is the mechanism's default (1).
            mechanism: a key of :data:`lreorg_fast.privacy.MECHANISMS`.
            attribute_rule: for hidden keywords other than identity: ``uniform`` (the default),
                ``randomized``, ``neutral`` or ``farthest``.
            attribute_epsilon: of ``randomized``, per keyword; None is 1.
            tracks: one label per picture; equal labels are the same person, who keeps one draw
                and pays for it once. By default every picture is a person of its own.
            recovery: put a :class:`RecoveryKey` into every face's result.
            sampler: of a pseudonym, see :class:`lreorg_fast.privacy.Pseudonyms`; all ``tracks``
                are then its own. Or for tests only, see
                :class:`lreorg_fast.privacy.InsecureTestSampler`.
            latent_filter: called with the track and the latents (num_ws, dim) of each face that is
                worked on; what it returns takes their place. For video, see
                :class:`lreorg_fast.video.smoothing.CalmLatents`.

        Returns:
            One picture and one :class:`FaceResult` per input. A face that cannot be replaced and
            verified is filled with a solid colour; nothing raises for a single face.

        Raises:
            ConfigError, ImageError: settings or pictures that are not what is described above.
        """
        settings = self.resolve(
            Settings(hide, keep, epsilon, mechanism, attribute_rule, attribute_epsilon), sampler
        )
        pictures = checked_pictures(images)
        names = self._track_names(tracks, len(pictures))
        check_tracks(sampler, names)
        faces = [
            _Face(i, names[i], self._to_tensor(picture), self._seen(picture))
            for i, picture in enumerate(pictures)
        ]
        self._work(faces, settings, latent_filter)
        if tracks is None:  # persons of one picture: their draws are not needed again
            for face in faces:
                self.ledger.forget(face.track)
        outputs = tuple(
            self._to_picture(face, picture) for face, picture in zip(faces, pictures, strict=True)
        )
        described = tuple(self._describe(face, settings, recovery) for face in faces)
        return Result(outputs, described, batched=not is_single(images))

    def stream(
        self,
        frames: Iterable[Picture],
        scene: SceneSettings | None = None,
        settings: StreamSettings | None = None,
        *,
        detector: Detector | None = None,
        tracker: Tracker | None = None,
        report: Callable[[Shown], None] | None = None,
    ) -> Iterator[Picture]:
        """Anonymize whole frames as they come, in order, one out for each one in.

        Args:
            frames: (H, W, 3) uint8 RGB each.
            scene: what is done to faces; the default is :class:`SceneSettings`.
            settings: time-out, hold time, buffer; the default is :class:`StreamSettings`.
            detector: finds faces; None is the packaged one.
            tracker, report: see :func:`lreorg_fast.live.stream`, which also says what comes out.

        Raises:
            ConfigError: this bundle cannot do what ``scene`` asks for.
            ImageError, MissingExtra: see :func:`lreorg_fast.live.stream`.
        """
        from lreorg_fast.faces import load_detector
        from lreorg_fast.live import stream
        from lreorg_fast.scene import SceneAnonymizer, SceneSettings

        found_by = load_detector() if detector is None else detector
        whole = SceneAnonymizer(self, found_by, scene or SceneSettings())
        return stream(whole, frames, settings, tracker=tracker, report=report)

    def video(
        self,
        source: str | Path,
        target: str | Path | None = None,
        *,
        scene: SceneSettings | None = None,
        video: VideoSettings | None = None,
        detector: Detector | None = None,
        subjects: Subjects | None = None,
        sealer: Sealer | None = None,
        resume: bool = False,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> VideoReport:
        """Anonymize a video; see :func:`lreorg_fast.video.anonymize_video`.

        ``detector`` is the packaged one if None. Needs ``lreorg_fast[faces,video]``.
        """
        from lreorg_fast.faces import load_detector
        from lreorg_fast.video import anonymize_video

        return anonymize_video(
            self,
            load_detector() if detector is None else detector,
            source,
            target,
            scene=scene,
            video=video,
            subjects=subjects,
            sealer=sealer,
            resume=resume,
            overwrite=overwrite,
            progress=progress,
        )

    def on_device(
        self,
        faces: Sequence[Tensor],
        tracks: Sequence[str],
        settings: ResolvedSettings,
        latent_filter: LatentFilter | None = None,
        *,
        own: Mapping[str, ResolvedSettings] | None = None,
        recovery: bool = False,
    ) -> tuple[list[Tensor | None], tuple[FaceResult, ...]]:
        """As :meth:`__call__`, for faces that are tensors already: nothing leaves the device.

        Args:
            faces: ``(3, R, R)`` float in [-1, 1] each, of :attr:`resolution`.
            tracks: one label per face.
            settings: from :meth:`resolve`.
            latent_filter: see :meth:`__call__`.
            own: of tracks that draw from a sampler of their own (a pseudonym): the same settings
                resolved with it.
            recovery: see :meth:`__call__`.

        Returns:
            The new faces, None where one has to be filled, and what was done.
        """
        size, own = self.encoder.config.input_size, own or {}
        work = [
            _Face(i, track, face, at_size(face[None], size)[0], own.get(track))
            for i, (track, face) in enumerate(
                zip(self._track_names(tracks, len(faces)), faces, strict=True)
            )
        ]
        self._work(work, settings, latent_filter)
        described = tuple(self._describe(face, settings, recovery) for face in work)
        return [face.output for face in work], described

    def restore(self, image: Any, key: RecoveryKey) -> Picture:
        """Bring an anonymized face back, approximately, with its recovery key.

        Args:
            image: one anonymized picture, as it was given out.
            key: from the same face's :class:`FaceResult`.

        Returns:
            (H, W, 3) uint8 RGB: the original's key features in the anonymized face's residual.
            It is not the original picture; what is hit is measured in the bundle's figures.
        """
        (picture,) = checked_pictures(image)
        restored = to_pictures(self._restored(self._seen(picture), key))[0]
        return resized(restored, picture.shape[1::-1])

    def restore_on_device(self, face: Tensor, key: RecoveryKey) -> Tensor:
        """As :meth:`restore`, of ``(3, R, R)`` float in [-1, 1]; the same comes back."""
        seen = at_size(face[None].to(self.device), self.encoder.config.input_size)[0]
        return self._restored(seen, key)[0]

    def _restored(self, seen: Tensor, key: RecoveryKey) -> Tensor:
        """(1, 3, R, R) of what the encoder sees."""
        unknown = [name for name in key.features if name not in self.keywords]
        if unknown or not key.features:
            raise ConfigError(f"the recovery key is for keywords {unknown}, not of this bundle")
        with torch.inference_mode():
            s = self.encoder(seen[None].to(self.device))
            features = {
                name: torch.from_numpy(feature).to(self.device)
                for name, feature in reversed(list(key.features.items()))
            }
            restored: Tensor = self.generator.synthesis(self.engine.reorganize(s, features, []))
        return restored.clamp(-1, 1)

    def _track_names(self, tracks: Sequence[str] | None, count: int) -> list[str]:
        if tracks is None:
            return [f"face-{next(self._numbers)}" for _ in range(count)]
        if isinstance(tracks, str) or len(tracks) != count:
            raise ConfigError(f"tracks must be a list of {count} labels, one per picture")
        return [str(track) for track in tracks]

    # ---- the pipeline

    def _work(
        self, faces: list[_Face], settings: ResolvedSettings, latent_filter: LatentFilter | None
    ) -> None:
        """As many at once as memory allows."""
        batch = max(1, min(_MOST_FACES, _MOST_PIXELS // self.resolution**2))
        with torch.inference_mode():
            for start in range(0, len(faces), batch):
                self._process(faces[start : start + batch], settings, latent_filter)

    def _process(
        self, faces: list[_Face], settings: ResolvedSettings, latent_filter: LatentFilter | None
    ) -> None:
        """All faces at once; if that fails, each for itself, so that one cannot spoil others."""
        try:
            self._anonymize(faces, settings, latent_filter)
        except Exception as error:
            if len(faces) == 1:
                _give_up(faces[0], f"an error in the pipeline ({type(error).__name__})")
                return
            for face in faces:
                self._process([face], settings, latent_filter)

    def _anonymize(
        self, faces: list[_Face], settings: ResolvedSettings, latent_filter: LatentFilter | None
    ) -> None:
        s0 = self._encode(faces)
        going = [face for face in faces if face.reason is None]
        if not going:
            return
        s0 = s0[[i for i, face in enumerate(faces) if face.reason is None]]
        if latent_filter is not None:
            s0 = torch.stack([latent_filter(f.track, s) for f, s in zip(going, s0, strict=True)])
        replace = self._replace(going, s0, settings)
        paid = [i for i, face in enumerate(going) if face.reason is None]
        if not paid:
            return
        going, s0 = [going[i] for i in paid], s0[paid]
        replace = {name: feature[paid] for name, feature in replace.items()}
        s = self.engine.reorganize(s0, replace, list(settings.keep))
        made = self.generator.synthesis(s).clamp(-1, 1)
        self._verify(going, made, settings)

    def _encode(self, faces: list[_Face]) -> Tensor:
        """Latents of all faces; those outside of the bundle's domain are given up."""
        s0 = self.encoder(self._batch(face.seen for face in faces))
        pictures = self._batch(face.original for face in faces)
        features = self.verification.features(pictures)
        back = self.generator.synthesis(s0)
        reasons = self.verification.refusals(pictures, s0, back, features)
        for face, own, reason in zip(faces, features, reasons, strict=True):
            face.features = own
            if reason is not None:
                _give_up(face, reason)
        return torch.where(torch.isfinite(s0), s0, 0.0)

    def _replace(
        self, faces: list[_Face], s0: Tensor, settings: ResolvedSettings
    ) -> dict[str, Tensor]:
        """Replacement features ``(N, 1, dim)`` by hidden keyword, drawn and paid for.

        As published, each is chosen from the key feature of the current latent, in which the
        keywords before it are already replaced.
        """
        replace: dict[str, Tensor] = {}
        originals: list[dict[str, Any]] = [{} for _ in faces]
        for face in faces:
            face.replacements = {}
        for name, anonymizer in settings.anonymizers.items():
            current = self.engine.reorganize(s0, replace, []) if replace else s0
            features, _ = self.engine.disentangle(current, name)
            rows = []
            for face, feature, original in zip(faces, features.cpu(), originals, strict=True):
                drawn_by = anonymizer if face.own is None else face.own.anonymizers[name]
                rows.append(self._draw(face, name, drawn_by, feature))
                original[name] = feature.numpy().astype(np.float32)
            replace[name] = torch.stack(rows)[:, None].to(s0)
        for face, original in zip(faces, originals, strict=True):
            face.key = RecoveryKey(original)
        return replace

    def _draw(
        self,
        face: _Face,
        name: str,
        anonymizer: FeatureAnonymizer,
        feature: Tensor,
    ) -> Tensor:
        try:
            drawn = self.ledger.held(
                face.track, lambda: anonymizer.replacement(feature), anonymizer.epsilon, name
            )
        except LReorgError as error:
            _give_up(face, str(error))
            return torch.zeros(self.codebook.dim)
        assert face.replacements is not None
        face.replacements[name] = drawn
        return torch.tensor(drawn.feature)

    def _verify(self, faces: list[_Face], made: Tensor, settings: ResolvedSettings) -> None:
        """Release a face only if it is one, and, where identity is hidden, not the same one."""
        originals = torch.stack([cast(Tensor, face.features) for face in faces])
        features = self.verification.features(made)
        similarity = F.cosine_similarity(features, originals)
        hides = IDENTITY in settings.hide
        reasons = self.verification.failures(made, features, similarity, hides)
        for face, found, reason, picture in zip(faces, similarity, reasons, made, strict=True):
            face.similarity = float(found)
            if reason is None:
                face.output = picture
            else:
                _give_up(face, reason)

    # ---- pictures

    def _part(self, role: str) -> torch.nn.Module:
        return load_part(self.bundle, role).to(self.device)

    def _to_tensor(self, picture: Picture) -> Tensor:
        """(3, R, R) float32 in [-1, 1]."""
        return _sized(picture, self.resolution)

    def _seen(self, picture: Picture) -> Tensor:
        """(3, S, S) float32 in [-1, 1] for the encoder; from the picture itself, resized once."""
        return _sized(picture, self.encoder.config.input_size)

    def _batch(self, pictures: Iterable[Tensor]) -> Tensor:
        return torch.stack(list(pictures)).to(self.device)

    def _to_picture(self, face: _Face, like: Picture) -> Picture:
        if face.output is None:
            return np.full(like.shape, FILL_COLOUR, dtype=np.uint8)
        return resized(to_pictures(face.output[None])[0], like.shape[1::-1])

    def _describe(self, face: _Face, settings: ResolvedSettings, recovery: bool) -> FaceResult:
        drawn = face.replacements or {}
        return FaceResult(
            index=face.index,
            status="filled" if face.output is None else "replaced",
            reason=face.reason,
            track=face.track,
            epsilon=float(sum(r.epsilon for r in drawn.values())),
            mechanism={name: r.mechanism for name, r in drawn.items()},
            guarantee={name: r.guarantee for name, r in drawn.items()},
            hidden=settings.hide,
            kept=settings.keep,
            similarity=face.similarity,
            recovery_key=face.key if recovery else None,
        )


def _sized(picture: Picture, size: int) -> Tensor:
    return to_tensor([resized(picture, (size, size))])[0]


def _give_up(face: _Face, reason: str) -> None:
    """From here on the face can only be filled."""
    face.reason = reason
    face.output = None
    logger.warning("a face is filled with a solid colour: %s", reason)


def _checked_device(device: str | torch.device) -> torch.device:
    try:
        checked = torch.device(device)
        torch.zeros(1, device=checked).item()  # also refuses devices without data ("meta")
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ConfigError(
            f"device is {str(device)!r}, which cannot be used here; choose 'cpu' or a device "
            "that `lreorg doctor` lists"
        ) from error
    return checked


def _table(tables: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in tables:
        raise BundleError(f"the bundle's tables lack '{name}'; rebuild the bundle")
    return tables[name].float()
