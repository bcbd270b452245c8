"""Key pairs for sealed originals: the anonymizer holds the public key, and only that.

X25519. The private key's file is protected by a passphrase (Argon2id, AES-256-GCM) unless it is
made without one. Needs the extra ``seal``.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import unicodedata
from dataclasses import asdict, dataclass
from typing import Any

from lreorg_fast.errors import ConfigError, MissingExtra, SealError
from lreorg_fast.files import atomic_file, parse_json, read_bounded

_PUBLIC_WORD = "lreorg-seal-public-key-v1"
_FORMAT, _VERSION = "lreorg-seal-key", 1
_MOST_BYTES = 1 << 16
KEY_BYTES, _NONCE_BYTES, _SALT_BYTES = 32, 12, 16
# A file that asks for more would take a computer's memory before it is refused. RFC 9106's own
# choices lie within: 2 GiB is its largest.
_LIMITS = {"iterations": (1, 64), "lanes": (1, 64), "memory_kib": (8, 2 << 20)}


def require_cryptography() -> None:
    """Raises MissingExtra unless the package that seals is installed, new enough for Argon2id."""
    try:
        import cryptography.hazmat.primitives.kdf.argon2  # noqa: F401
    except ImportError as error:
        raise MissingExtra(
            "sealed originals need cryptography 44 or newer: pip install 'lreorg_fast[seal]'"
        ) from error


@dataclass(frozen=True)
class PassphraseCost:
    """Argon2id (RFC 9106). The defaults are its second recommendation: 64 MiB, 3 passes."""

    iterations: int = 3
    lanes: int = 4
    memory_kib: int = 64 << 10

    def __post_init__(self) -> None:
        for name, (least, most) in _LIMITS.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise ConfigError(
                    f"{name} of the passphrase is {value!r}, but must be an integer from {least} "
                    f"to {most}; {getattr(PassphraseCost, name)} is the default"
                )
        if self.memory_kib < 8 * self.lanes:
            raise ConfigError(
                f"memory_kib of the passphrase is {self.memory_kib}, but must be at least 8 for "
                f"each of {self.lanes} lanes; raise it"
            )

    def derive(self, passphrase: str, salt: bytes) -> bytes:
        """32 bytes; the passphrase's normal form does not matter."""
        from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

        derivation = Argon2id(
            salt=salt,
            length=KEY_BYTES,
            iterations=self.iterations,
            lanes=self.lanes,
            memory_cost=self.memory_kib,
        )
        return derivation.derive(unicodedata.normalize("NFC", passphrase).encode("utf-8"))


@dataclass(frozen=True)
class PublicKey:
    """Seals; cannot open. Its file is one line of text and may be given to anybody."""

    raw: bytes

    def __post_init__(self) -> None:
        if not isinstance(self.raw, bytes) or len(self.raw) != KEY_BYTES:
            raise SealError("a public key must have 32 bytes; make a pair with: lreorg keygen")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the key; an existing file stays.

        Raises:
            OutputError: it cannot be written there.
        """
        with atomic_file(path) as stream:
            stream.write(f"{_PUBLIC_WORD} {self.raw.hex()}\n".encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> PublicKey:
        """Read what :meth:`save` wrote.

        Raises:
            SealError: missing, or not a public key.
        """
        try:
            text = read_bounded(path, _MOST_BYTES).decode("ascii").strip()
        except (OSError, ValueError) as error:
            raise _unreadable(path, "public", error) from error
        if not re.fullmatch(rf"{_PUBLIC_WORD} [0-9a-f]{{64}}", text):
            raise _unreadable(path, "public", "it is something else")
        return cls(bytes.fromhex(text.split()[1]))


@dataclass(frozen=True)
class PrivateKey:
    """Opens what was sealed for its :attr:`public` key. Its text never shows it."""

    raw: bytes

    def __post_init__(self) -> None:
        if not isinstance(self.raw, bytes) or len(self.raw) != KEY_BYTES:
            raise SealError("a private key must have 32 bytes; make a pair with: lreorg keygen")

    def __repr__(self) -> str:
        return "PrivateKey()"

    @classmethod
    def generate(cls) -> PrivateKey:
        """A new pair, from the system's generator.

        Raises:
            MissingExtra: see :func:`require_cryptography`.
        """
        require_cryptography()
        return cls(secrets.token_bytes(KEY_BYTES))

    @property
    def public(self) -> PublicKey:
        """The other half."""
        require_cryptography()
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        return PublicKey(
            X25519PrivateKey.from_private_bytes(self.raw).public_key().public_bytes_raw()
        )

    def save(
        self,
        path: str | os.PathLike[str],
        passphrase: str | None,
        cost: PassphraseCost | None = None,
    ) -> None:
        """Write the key, readable by its owner only; an existing file stays, always.

        Args:
            path: the file.
            passphrase: None stores the key as it is.
            cost: of each guess at the passphrase.

        Raises:
            ConfigError: an empty passphrase.
            OutputError: it cannot be written there.
        """
        content: dict[str, Any] = {
            "format": _FORMAT,
            "version": _VERSION,
            "public": self.public.raw.hex(),
        }
        if passphrase is None:
            content["private"] = self.raw.hex()
        else:
            content |= self._protected(passphrase, cost or PassphraseCost())
        with atomic_file(path, private=True) as stream:
            stream.write((json.dumps(content, indent=1) + "\n").encode())

    def _protected(self, passphrase: str, cost: PassphraseCost) -> dict[str, Any]:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if not passphrase:
            raise ConfigError("the passphrase is empty; type one, or ask for a key without one")
        salt, nonce = secrets.token_bytes(_SALT_BYTES), secrets.token_bytes(_NONCE_BYTES)
        cipher = AESGCM(cost.derive(passphrase, salt))
        return {
            "argon2id": asdict(cost) | {"salt": salt.hex()},
            "nonce": nonce.hex(),
            "sealed_private": cipher.encrypt(nonce, self.raw, self.public.raw).hex(),
        }

    @classmethod
    def load(cls, path: str | os.PathLike[str], passphrase: str | None = None) -> PrivateKey:
        """Read what :meth:`save` wrote.

        Raises:
            SealError: missing, damaged, the passphrase is wrong, lacking or not needed, or the
                file asks for more memory or time than any sensible key.
            MissingExtra: see :func:`require_cryptography`.
        """
        require_cryptography()
        content = _read_key_file(path)
        protected = "argon2id" in content
        if protected != (passphrase is not None):
            remedy = "give it" if protected else "leave it out"
            raise SealError(
                f"the key '{path}' {'has a' if protected else 'has no'} passphrase; {remedy}"
            )
        try:
            if passphrase is None:
                key = cls(bytes.fromhex(content["private"]))
            else:
                key = cls(_opened(content, passphrase))
            matches = key.public.raw.hex() == content["public"]
        except (ValueError, TypeError, KeyError, ConfigError) as error:
            raise _unreadable(path, "private", "a field is wrong") from error
        if not matches:
            raise _unreadable(path, "private", "its halves are of two pairs")
        return key


def needs_passphrase(path: str | os.PathLike[str]) -> bool:
    """Whether :meth:`PrivateKey.load` must be given one; errors as there."""
    return "argon2id" in _read_key_file(path)


def _opened(content: dict[str, Any], passphrase: str) -> bytes:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    settings = dict(content["argon2id"])
    salt, nonce = bytes.fromhex(settings.pop("salt")), bytes.fromhex(content["nonce"])
    sealed, public = bytes.fromhex(content["sealed_private"]), bytes.fromhex(content["public"])
    if (len(salt), len(nonce), len(sealed)) != (_SALT_BYTES, _NONCE_BYTES, KEY_BYTES + 16):
        raise ValueError("a field of another size")
    try:
        cipher = AESGCM(PassphraseCost(**settings).derive(passphrase, salt))
        return cipher.decrypt(nonce, sealed, public)
    except InvalidTag as error:
        raise SealError(
            "the key does not open: the passphrase is wrong, or the file was changed"
        ) from error


_PLAIN_FIELDS = {"format", "version", "public", "private"}
_PROTECTED_FIELDS = {"format", "version", "public", "argon2id", "nonce", "sealed_private"}


def _read_key_file(path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        content = parse_json(read_bounded(path, _MOST_BYTES))
    except (OSError, ValueError) as error:
        raise _unreadable(path, "private", error) from error
    if (
        not isinstance(content, dict)
        or set(content) not in (_PLAIN_FIELDS, _PROTECTED_FIELDS)
        or content["format"] != _FORMAT
        or content["version"] != _VERSION
    ):
        raise _unreadable(path, "private", "it is something else")
    return content


def _unreadable(path: object, kind: str, reason: object) -> SealError:
    why = getattr(reason, "strerror", None) or reason
    return SealError(
        f"'{path}' cannot be read as a {kind} key of lreorg ({why}); give a file that "
        "`lreorg keygen` made"
    )
