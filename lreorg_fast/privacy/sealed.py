"""Sealed originals: what brings a person back, for the holder of a private key and nobody else.

A seal is a file beside an output. It is made with a public key, so the computer that anonymizes
cannot open it again. Ephemeral X25519, HKDF-SHA256, AES-256-GCM; the associated data are the
output's pixels, the track and the version, so that a seal fits the one output that it was made
for. What was moved, exchanged or edited does not open, and a wrong key is an error, never a face.

Anybody with the public key can make a seal: it says nothing about who made it. With a seal, data
are pseudonymised, not anonymous. docs/privacy.md has the format.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lreorg_fast.errors import ConfigError, SealError
from lreorg_fast.privacy.exchange import DOES_NOT_OPEN, derived
from lreorg_fast.privacy.keys import KEY_BYTES, PrivateKey, PublicKey, require_cryptography
from lreorg_fast.privacy.seal_bodies import BLOCK, arrays_of, description_of, packed
from lreorg_fast.privacy.subjects import picture_digest

KINDS = {
    "feature": "the original's key features: an approximate face, through the network's inverse",
    "crop": "the original picture of the face, exactly",
}
"""Kind to what its holder gets back."""
STATEMENT = (
    "These outputs have seals: whoever holds the private key can bring people back. They are "
    "pseudonymised, not anonymous."
)
MAX_SEAL_BYTES = 256 << 20

_MAGIC, _VERSION = b"LREORGSL", 1
_CODES = {"feature": 1, "crop": 2}
_TRACK_BYTES = 64
_HEADER = struct.Struct(f"<8sHH{_TRACK_BYTES}s{KEY_BYTES}s")
_TAG_BYTES, _NONCE_BYTES = 16, 12
_INFO = b"lreorg seal v1"
_LONGEST_NAME, MOST_KEYWORDS, _MOST_ROWS = 100, 64, 64
_MOST_NUMBERS = 1 << 22


@dataclass(frozen=True, eq=False)
class Original:
    """What is sealed, exactly one of two things.

    Attributes:
        features: hidden keyword, in the order of hiding, to the original's (rows, dim) float32.
        crop: (H, W, 3) uint8 RGB, the picture that was anonymized.
    """

    features: Mapping[str, NDArray[np.float32]] | None = field(default=None, repr=False)
    crop: NDArray[np.uint8] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if (self.features is None) == (self.crop is None):
            raise ConfigError("an original holds either features or a crop; give one of them")
        if self.features is not None:
            check_features(self.features)
        if self.crop is not None and (
            self.crop.dtype != np.uint8 or self.crop.ndim != 3 or self.crop.shape[2] != 3
        ):
            raise ConfigError("crop must be a picture (H, W, 3) of uint8")

    @property
    def kind(self) -> str:
        """A key of :data:`KINDS`."""
        return "crop" if self.features is None else "feature"


def seal(original: Original, output: NDArray[np.uint8], track: str, recipient: PublicKey) -> bytes:
    """Seal what brings the person behind ``output`` back.

    Args:
        original: what is sealed.
        output: (H, W, 3) uint8, the anonymized picture as it will be read again.
        track: name of the person-track, at most 64 bytes; it can be read without a key.
        recipient: who will be able to open it.

    Returns:
        The seal. Its length tells kind, shapes and keywords, not content.

    Raises:
        ConfigError: a track that is too long.
        SealError: the public key is none.
        MissingExtra: without the extra ``seal``.
    """
    require_cryptography()
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    name = track.encode("utf-8")
    if len(name) > _TRACK_BYTES or b"\0" in name:
        raise ConfigError(
            f"track has {len(name)} bytes, but a seal takes {_TRACK_BYTES} without NUL; shorten it"
        )
    ephemeral = X25519PrivateKey.generate()
    public = ephemeral.public_key().public_bytes_raw()
    header = _HEADER.pack(_MAGIC, _VERSION, _CODES[original.kind], name, public)
    key, nonce = _derived(ephemeral, recipient, public, recipient.raw)
    body = _packed(original)
    return header + AESGCM(key).encrypt(nonce, body, header + picture_digest(output))


def unseal(content: bytes, output: NDArray[np.uint8], key: PrivateKey) -> Original:
    """Open a seal with the private key and the output that it was made for.

    Raises:
        SealError: damaged, made for another key or another output, or the output was edited.
        MissingExtra: without the extra ``seal``.
    """
    require_cryptography()
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    _track, kind, ephemeral = _read_header(content)
    header, rest = content[: _HEADER.size], content[_HEADER.size :]
    private = X25519PrivateKey.from_private_bytes(key.raw)
    secret, nonce = _derived(private, PublicKey(ephemeral), ephemeral, key.public.raw)
    try:
        body = AESGCM(secret).decrypt(nonce, rest, header + picture_digest(output))
    except InvalidTag as error:
        raise SealError(DOES_NOT_OPEN) from error
    try:
        # Anybody can seal anything for a public key, so what is inside is looked at as well.
        return _unpacked(kind, body)
    except (ValueError, TypeError, KeyError, ConfigError) as error:
        raise SealError("the seal opens, but holds no original; it was made wrongly") from error


def seal_track(content: bytes) -> str:
    """The track of a seal, which needs no key and proves nothing; SealError if it is no seal."""
    return _read_header(content)[0]


def _derived(
    private: Any, public: PublicKey, ephemeral: bytes, recipient: bytes
) -> tuple[bytes, bytes]:
    """Key and nonce. No two seals share an ephemeral key, so the nonce is never used twice."""
    size = KEY_BYTES + _NONCE_BYTES
    made = derived(private, public, ephemeral, recipient, _INFO, size)
    return made[:KEY_BYTES], made[KEY_BYTES:]


def _read_header(content: bytes) -> tuple[str, str, bytes]:
    body = len(content) - _HEADER.size - _TAG_BYTES
    if body <= 0 or body % BLOCK or len(content) > MAX_SEAL_BYTES:
        raise SealError(f"a file of {len(content)} bytes is no seal; give the one of the output")
    magic, version, code, track, ephemeral = _HEADER.unpack_from(content)
    kinds = {code: kind for kind, code in _CODES.items()}
    if magic != _MAGIC or version != _VERSION or code not in kinds:
        raise SealError(
            f"the file is no seal of version {_VERSION}; give the one that was written beside the "
            "output"
        )
    try:
        return track.rstrip(b"\0").decode("utf-8"), kinds[code], ephemeral
    except UnicodeDecodeError as error:
        raise SealError("the seal names no track; it is damaged") from error


# ---- what is inside


def _packed(original: Original) -> bytes:
    if original.features is not None:
        arrays = {name: np.asarray(a, "<f4") for name, a in original.features.items()}
        return packed([[name, *a.shape] for name, a in arrays.items()], arrays.values())
    assert original.crop is not None
    return packed([["crop", *original.crop.shape]], [original.crop])


def _unpacked(kind: str, body: bytes) -> Original:
    """ValueError, TypeError, KeyError or ConfigError for anything odd."""
    shapes = description_of(body)
    item, axes = ("<f4", 2) if kind == "feature" else ("u1", 3)
    if not isinstance(shapes, list) or not 0 < len(shapes) <= MOST_KEYWORDS:
        raise ValueError("not a list of arrays")
    names = [name for name, *_ in shapes]
    if not all(isinstance(name, str) for name in names) or len(set(names)) != len(names):
        raise ValueError("an array without a name")
    if any(len(shape) != axes for _, *shape in shapes):
        raise ValueError("not a shape")
    found = arrays_of(body, [(item, shape) for _, *shape in shapes])
    arrays = dict(zip(names, found, strict=True))
    if kind == "feature":
        return Original(features=arrays)
    if set(arrays) != {"crop"}:
        raise ValueError("not one crop")
    return Original(crop=arrays["crop"])


def check_features(features: Mapping[str, NDArray[np.float32]]) -> None:
    """Raises ConfigError unless these are key features by keyword: (rows, dim), finite."""
    if not 0 < len(features) <= MOST_KEYWORDS:
        raise ConfigError(f"features must be of 1 to {MOST_KEYWORDS} keywords; give those hidden")
    for name, array in features.items():
        if (
            not 0 < len(name) <= _LONGEST_NAME
            or array.ndim != 2
            or not 0 < array.shape[0] <= _MOST_ROWS
            or array.size > _MOST_NUMBERS
            or not np.isfinite(array).all()
        ):
            raise ConfigError(
                f"features of a keyword must be (rows, dim) of finite numbers, at most "
                f"{_MOST_ROWS} rows; give those of a recovery key"
            )
