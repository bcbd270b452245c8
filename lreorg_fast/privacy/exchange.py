"""The secret that a seal's key is derived from: X25519 with a fresh pair for each, then HKDF."""

from __future__ import annotations

from typing import Any

from lreorg_fast.errors import SealError
from lreorg_fast.privacy.keys import PublicKey

DOES_NOT_OPEN = (
    "the seal does not open: it was made for another key or another output, or one of them was "
    "changed; give the output as it was written, and the key that it was sealed for"
)


def derived(
    private: Any, public: PublicKey, ephemeral: bytes, recipient: bytes, info: bytes, size: int
) -> bytes:
    """``size`` bytes of HKDF-SHA256 over the secret of one pair and one public key.

    Both public keys take part, and no two seals share an ephemeral one.

    Args:
        private: an ``X25519PrivateKey``.
        public: of the other side.
        ephemeral, recipient: the two public keys, 32 bytes each.
        info: what the bytes are for.
        size: of the result.

    Raises:
        SealError: a point of small order, which gives the same secret to everybody.
    """
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(public.raw))
    except ValueError as error:
        raise SealError("the public key of the seal is none; it was made wrongly") from error
    info = info + ephemeral + recipient
    return HKDF(algorithm=SHA256(), length=size, salt=None, info=info).derive(shared)
