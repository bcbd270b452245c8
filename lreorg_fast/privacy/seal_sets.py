"""A file with many sealed sections: one per face of a whole picture, one per segment of a video.

Each section has an ephemeral key of its own, so a run that was interrupted goes on without any
secret on the disk. A section is a sequence of chunks that is encrypted while it is made, in the
STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizar: "Online authenticated-encryption and its
nonce-reuse misuse-resistance", 2015): a counter and the mark of the last chunk stand in the nonce,
so chunks that were dropped, repeated, moved or cut off do not open. The associated data are the
file's header (with a random number and the number of sections), the section's number and head,
and, for its last chunk, the digest of what the section is about: the pixels of the output.
docs/privacy.md has the format.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from lreorg_fast.errors import ConfigError, SealError
from lreorg_fast.privacy.exchange import DOES_NOT_OPEN, derived
from lreorg_fast.privacy.keys import KEY_BYTES, PrivateKey, PublicKey, require_cryptography
from lreorg_fast.privacy.seal_bodies import BLOCK
from lreorg_fast.privacy.sealed import KINDS

MAGIC = b"LREORGSS"
_KINDS = tuple(KINDS)
MEDIA = ("picture", "video")
MAX_CHUNK_BYTES = 256 << 20
_VERSION = 1
_ID_BYTES, _LABEL_BYTES, _TAG_BYTES, _PREFIX_BYTES = 16, 64, 16, 7
_HEADER = struct.Struct(f"<8sHBBII{_ID_BYTES}s")
_NUMBER = struct.Struct("<I")
_CHUNK = struct.Struct("<IB")
_COUNTER = struct.Struct(">IB")
_HEAD_BYTES = _LABEL_BYTES + KEY_BYTES
_INFO = b"lreorg seal set v1"
_MOST_SECTIONS = 1 << 24


@dataclass(frozen=True)
class SetHeader:
    """The beginning of a file; anybody can read it.

    Attributes:
        kind: ``feature`` or ``crop``, see :data:`lreorg_fast.privacy.sealed.KINDS`.
        medium: ``picture`` (a section per face) or ``video`` (a section per segment).
        count: number of sections.
        span: frames of a segment; 0 for a picture.
        identity: 16 random bytes, so that no section fits into another file.
    """

    kind: str
    medium: str
    count: int
    span: int
    identity: bytes

    def __post_init__(self) -> None:
        if (
            self.kind not in _KINDS
            or self.medium not in MEDIA
            or not 0 < self.count <= _MOST_SECTIONS
            or (self.span == 0) != (self.medium == "picture")
            or len(self.identity) != _ID_BYTES
        ):
            raise ConfigError("the header of a set of seals has a field out of range; correct it")

    @classmethod
    def fresh(cls, kind: str, medium: str, count: int, span: int = 0) -> SetHeader:
        """Of a new file."""
        return cls(kind, medium, count, span, secrets.token_bytes(_ID_BYTES))

    @property
    def raw(self) -> bytes:
        """As it is written."""
        codes = _KINDS.index(self.kind) + 1, MEDIA.index(self.medium) + 1
        return _HEADER.pack(MAGIC, _VERSION, *codes, self.count, self.span, self.identity)

    @classmethod
    def read(cls, stream: BinaryIO) -> SetHeader:
        """Raises SealError if the file begins with something else."""
        content = stream.read(_HEADER.size)
        try:
            magic, version, kind, medium, count, span, identity = _HEADER.unpack(content)
            if magic != MAGIC or version != _VERSION or not kind or not medium:
                raise ValueError("another format")
            return cls(_KINDS[kind - 1], MEDIA[medium - 1], count, span, identity)
        except (struct.error, ValueError, IndexError, ConfigError) as error:
            raise SealError(
                f"the file is no set of seals of version {_VERSION}; give the one that was written "
                "beside the output"
            ) from error


class SectionSealer:
    """Encrypts one section, chunk by chunk.

    Args:
        header: of the file.
        number: of the section, from 0.
        label: for people, such as the track: at most 64 bytes, readable without a key.
        recipient: who will be able to open it.

    Raises:
        ConfigError: a label that is too long.
        SealError: the public key is none.
        MissingExtra: without the extra ``seal``.
    """

    def __init__(self, header: SetHeader, number: int, label: str, recipient: PublicKey) -> None:
        require_cryptography()
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        name = label.encode("utf-8")
        if len(name) > _LABEL_BYTES or b"\0" in name:
            raise ConfigError(
                f"label has {len(name)} bytes, but a seal takes {_LABEL_BYTES} without NUL; "
                "shorten it"
            )
        ephemeral = X25519PrivateKey.generate()
        public = ephemeral.public_key().public_bytes_raw()
        self.head = name.ljust(_LABEL_BYTES, b"\0") + public
        secret = derived(
            ephemeral, recipient, public, recipient.raw, _INFO, KEY_BYTES + _PREFIX_BYTES
        )
        self._cipher = _Cipher(secret, header.raw + _NUMBER.pack(number) + self.head)

    def chunk(self, body: bytes) -> bytes:
        """One chunk as it is written, after :attr:`head` and the chunks before it."""
        return self._sealed(body, last=False, digest=b"")

    def last(self, body: bytes, digest: bytes) -> bytes:
        """The last chunk, which binds all of them to what they are about."""
        return self._sealed(body, last=True, digest=digest)

    def _sealed(self, body: bytes, last: bool, digest: bytes) -> bytes:
        if not body or len(body) % BLOCK or len(body) > MAX_CHUNK_BYTES:
            raise SealError(
                f"{len(body)} bytes are too many for a chunk of a seal; work on smaller pieces"
            )
        content = self._cipher.encrypt(body, last, digest)
        return _CHUNK.pack(len(content), last) + content


class _Cipher:
    """AES-256-GCM with a counter and the mark of the last chunk in the nonce."""

    def __init__(self, secret: bytes, context: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._aead = AESGCM(secret[:KEY_BYTES])
        self._prefix, self._context, self._counter = secret[KEY_BYTES:], context, 0

    def encrypt(self, body: bytes, last: bool, digest: bytes) -> bytes:
        return self._aead.encrypt(self._nonce(last), body, self._context + digest)

    def decrypt(self, content: bytes, last: bool, digest: bytes) -> bytes:
        return self._aead.decrypt(self._nonce(last), content, self._context + digest)

    def _nonce(self, last: bool) -> bytes:
        nonce = self._prefix + _COUNTER.pack(self._counter, last)
        self._counter += 1
        return nonce


def opened_section(
    stream: BinaryIO, header: SetHeader, number: int, key: PrivateKey, digest: bytes
) -> Iterator[bytes]:
    """The chunks of the section that begins here, one after another.

    A chunk that was handed out is genuine, but only when the iteration has ended is it known that
    the section is whole and belongs to ``digest``: use nothing of it before.

    Raises:
        SealError: damaged, cut off, of another file, key, place or output.
        MissingExtra: without the extra ``seal``.
    """
    require_cryptography()
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    head = _exactly(stream, _HEAD_BYTES)
    ephemeral = head[_LABEL_BYTES:]
    private = X25519PrivateKey.from_private_bytes(key.raw)
    size = KEY_BYTES + _PREFIX_BYTES
    secret = derived(private, PublicKey(ephemeral), ephemeral, key.public.raw, _INFO, size)
    cipher = _Cipher(secret, header.raw + _NUMBER.pack(number) + head)
    last = False
    while not last:
        content, last = _chunk(stream)
        try:
            yield cipher.decrypt(content, last, digest if last else b"")
        except InvalidTag as error:
            raise SealError(DOES_NOT_OPEN) from error


def check_end(stream: BinaryIO) -> None:
    """Raises SealError if anything follows."""
    if stream.read(1):
        raise SealError("the seal is longer than it says; give the one of the output")


def _chunk(stream: BinaryIO) -> tuple[bytes, bool]:
    size, last = _CHUNK.unpack(_exactly(stream, _CHUNK.size))
    body = size - _TAG_BYTES
    if last > 1 or not 0 < body <= MAX_CHUNK_BYTES or body % BLOCK:
        raise SealError("the seal is damaged: a part of it has an impossible size")
    return _exactly(stream, size), bool(last)


def _exactly(stream: BinaryIO, size: int) -> bytes:
    content = stream.read(size)
    if len(content) != size:
        raise SealError("the seal is cut off; give the whole file that was written")
    return content
