"""Seals beside outputs: written when a file is anonymized, opened when somebody restores it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from lreorg_fast.errors import ConfigError, SealError
from lreorg_fast.files import atomic_file, check_target, read_bounded
from lreorg_fast.media import read_image
from lreorg_fast.media.pictures import Picture
from lreorg_fast.privacy.keys import PrivateKey, PublicKey, require_cryptography
from lreorg_fast.privacy.randomness import INSECURE_GUARANTEE
from lreorg_fast.privacy.seal_sets import (
    MAGIC,
    SectionSealer,
    SetHeader,
    check_end,
    opened_section,
)
from lreorg_fast.privacy.sealed import KINDS, MAX_SEAL_BYTES, Original, seal, unseal
from lreorg_fast.privacy.subjects import picture_digest
from lreorg_fast.result import FaceResult, RecoveryKey
from lreorg_fast.scene.faces import SceneFace
from lreorg_fast.scene.sealed import PARSERS, Blending, SealedCrop, SealedFace, sealed_face

if TYPE_CHECKING:
    from lreorg_fast.pipeline import Anonymizer

SUFFIX = ".seal"
DEFAULT_KIND = "feature"


def seal_path(output: str | os.PathLike[str]) -> Path:
    """Where the seal of an output lies: beside it, with ``.seal`` added to its name."""
    return Path(f"{os.fspath(output)}{SUFFIX}")


@dataclass(frozen=True)
class Sealer:
    """Writes a seal beside every output of a run.

    Args:
        recipient: public key of who may bring people back.
        kind: a key of :data:`lreorg_fast.privacy.sealed.KINDS`.

    Raises:
        ConfigError: an unknown kind.
        MissingExtra: without the extra ``seal``.
    """

    recipient: PublicKey
    kind: str = DEFAULT_KIND

    def __post_init__(self) -> None:
        require_cryptography()
        if self.kind not in KINDS:
            raise ConfigError(
                f"kind of seal is {self.kind!r}, but must be one of {', '.join(KINDS)}; choose one"
            )

    @property
    def recovery(self) -> bool:
        """The anonymizer must hand out recovery keys."""
        return self.kind == "feature"

    def check(self, output: Path, overwrite: bool) -> None:
        """Before anything is drawn: OutputError if there is a seal that must stay."""
        if output.parent.is_dir():
            check_target(seal_path(output), overwrite)

    def write(
        self, output: Path, original: Picture, face: FaceResult, overwrite: bool = False
    ) -> Path | None:
        """Seal the original of a file that was written; None where nothing could bring it back.

        The output is read again, because a lossy format changes pixels. If no seal can be
        written, the output is taken away: what was asked for is a pair.

        Args:
            output: the written file.
            original: (H, W, 3) uint8, what it was made from.
            face: what became of it, with its recovery key for the kind ``feature``. A filled face
                has features that fit no output, so it gets a seal of the kind ``crop`` only.
            overwrite: replace an earlier seal.

        Raises:
            SealError: the draw is that of a test, which protects nobody.
            OutputError, ConfigError: it cannot be written.
        """
        return self._written(output, overwrite, lambda: self._sealed(output, original, face))

    def write_scene(
        self,
        output: Path,
        original: Picture,
        faces: Sequence[SceneFace],
        blending: Blending,
        overwrite: bool = False,
    ) -> Path | None:
        """As :meth:`write`, of a whole picture: one section per face that could be brought back.

        Args:
            output, original, overwrite: as there.
            faces: all of the picture, with recovery keys for the kind ``feature``.
            blending: how new faces were laid in.

        Raises:
            SealError: as there; a seal of more than 256 MiB.
            OutputError, ConfigError: it cannot be written.
        """
        return self._written(
            output, overwrite, lambda: self._sealed_scene(output, original, faces, blending)
        )

    def refuse_tests(self, guarantees: Sequence[str]) -> None:
        """Raises SealError if a draw was that of a test, which protects nobody."""
        if INSECURE_GUARANTEE in guarantees:
            raise SealError(
                "nothing is sealed for a draw of InsecureTestSampler, whose seed repeats it; leave "
                "the sampler out"
            )

    def _written(
        self, output: Path, overwrite: bool, sealed: Callable[[], bytes | None]
    ) -> Path | None:
        """The seal of an output that is taken away if there can be none."""
        try:
            content = sealed()
            if content is None:
                return None
            target = seal_path(output)
            with atomic_file(target, overwrite) as stream:
                stream.write(content)
        except BaseException:
            with contextlib.suppress(OSError):
                output.unlink()
            raise
        return target

    def _sealed_scene(
        self, output: Path, original: Picture, faces: Sequence[SceneFace], blending: Blending
    ) -> bytes | None:
        results = [face.result for face in faces if face.result is not None]
        self.refuse_tests([text for result in results for text in result.guarantee.values()])
        every = ((face.track, sealed_face(self.kind, face, original, blending)) for face in faces)
        found = [(track, face) for track, face in every if face is not None]
        if not found:
            return None
        header = SetHeader.fresh(self.kind, "picture", len(found))
        digest = picture_digest(read_image(output))
        content = header.raw
        for number, (track, face) in enumerate(found):
            section = SectionSealer(header, number, track, self.recipient)
            content += section.head + section.last(face.body, digest)
        if len(content) > MAX_SEAL_BYTES:
            raise SealError(
                f"the seal of the picture would have more than {MAX_SEAL_BYTES >> 20} MiB; seal "
                "the kind 'feature', or make the picture smaller"
            )
        return content

    def _sealed(self, output: Path, original: Picture, face: FaceResult) -> bytes | None:
        self.refuse_tests(list(face.guarantee.values()))
        if self.kind == "crop":
            found = Original(crop=original)
        elif face.status == "filled" or face.recovery_key is None:
            return None
        else:
            found = Original(features=face.recovery_key.features)
        return seal(found, read_image(output), face.track, self.recipient)


def restore_file(
    output: str | os.PathLike[str],
    key: PrivateKey,
    anonymizer: Callable[[], Anonymizer],
    seal_file: str | os.PathLike[str] | None = None,
) -> tuple[Picture, str]:
    """Bring the face of one output back, or all faces of a whole picture that have a section.

    Args:
        output: the file, as it was written.
        key: private key of the pair that it was sealed for.
        anonymizer: makes the one with the bundle that made the output; called only for the kind
            ``feature``.
        seal_file: the seal; None is the one beside the output.

    Returns:
        (H, W, 3) uint8 RGB, and the kind of the seal: ``crop`` is the original, ``feature`` an
        approximation of it.

    Raises:
        SealError: no seal, or it does not belong to this output and key.
        ImageError: the output is no picture.
        ConfigError: the bundle knows other keywords.
    """
    path = seal_path(output) if seal_file is None else Path(seal_file)
    picture = read_image(output)
    try:
        content = read_bounded(path, MAX_SEAL_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SealError(f"cannot read the seal '{path}': {reason}; put it beside the output") from (
            error
        )
    if content[: len(MAGIC)] == MAGIC:
        return _restored_scene(content, picture, key, anonymizer)
    original = unseal(content, picture, key)
    if original.crop is not None:
        return original.crop, original.kind
    assert original.features is not None
    network = anonymizer()
    try:
        return network.restore(picture, RecoveryKey(original.features)), original.kind
    except (ConfigError, RuntimeError) as error:  # other keywords, or features of another size
        from lreorg_fast.scene.restoring import OTHER_BUNDLE

        raise SealError(OTHER_BUNDLE) from error


def _restored_scene(
    content: bytes, picture: Picture, key: PrivateKey, anonymizer: Callable[[], Anonymizer]
) -> tuple[Picture, str]:
    """Every section is opened before the first face is put back."""
    header, faces = opened_scene(content, picture, key)
    # Below this line networks run, so torch is loaded.
    from lreorg_fast.scene.restoring import put_crops_back, put_features_back

    crops = [face for face in faces if isinstance(face, SealedCrop)]
    if crops:
        return put_crops_back(picture, crops), header.kind
    features = [face for face in faces if not isinstance(face, SealedCrop)]
    return put_features_back(anonymizer(), picture, features), header.kind


def opened_scene(
    content: bytes, picture: Picture, key: PrivateKey
) -> tuple[SetHeader, list[SealedFace]]:
    """The header and the faces of a whole picture's seal.

    Raises:
        SealError: damaged, or made for another key or output.
    """
    stream = BytesIO(content)
    header = SetHeader.read(stream)
    if header.medium != "picture":
        raise SealError("the seal is of a video, but the output is a picture; give its own")
    digest = picture_digest(picture)
    bodies = [
        list(opened_section(stream, header, number, key, digest)) for number in range(header.count)
    ]
    check_end(stream)
    try:
        # Anybody can seal anything for a public key, so what is inside is looked at as well.
        if any(len(chunks) != 1 for chunks in bodies):
            raise ValueError("not one chunk for each face")
        return header, [PARSERS[header.kind](chunks[0]) for chunks in bodies]
    except (ValueError, TypeError, KeyError, ConfigError) as error:
        raise SealError("the seal opens, but holds no original; it was made wrongly") from error
