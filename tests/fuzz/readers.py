"""Every reader of bytes that somebody else may have made, and what it may raise.

Shared by the tests (a committed corpus and its mutations), by the harness for atheris (fuzz.py)
and by the maker of the corpus (make_corpus.py).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lreorg_fast.errors import LReorgError

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT / "tests" / "data" / "fuzz"
# What the corpus was made with; it is worth nothing, and no file of a person is sealed with it.
PRIVATE_KEY = bytes(range(32))
OUTPUT = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
PASSPHRASE = "corpus"


@dataclass(frozen=True)
class Reader:
    """One reader.

    Attributes:
        read: reads the bytes; a folder of its own is given for those that read files.
        refusals: what it raises for bytes that it does not take. Anything else is a bug.
        repair: sets checksums right after a mutation, so that more than those is tested.
    """

    read: Callable[[bytes, Path], object]
    refusals: tuple[type[Exception], ...] = (LReorgError,)
    repair: Callable[[bytes], bytes] | None = None


def _as_file(read: Callable[[Path], object], name: str = "file") -> Callable[[bytes, Path], object]:
    def of(content: bytes, folder: Path) -> object:
        path = folder / name
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        return read(path)

    return of


def _picture(path: Path) -> object:
    from lreorg_fast.media import read_image

    return read_image(path, max_pixels=100_000)


def _checkpoint(path: Path) -> object:
    from lreorg_fast.weights.checkpoint import open_checkpoint

    return open_checkpoint(path, max_bytes=1 << 24)


def _tensors(path: Path) -> object:
    from lreorg_fast.weights.tensors import read_tensors

    return read_tensors(path, max_bytes=1 << 24)


def _bundle(path: Path) -> object:
    from lreorg_fast.weights import open_bundle

    return open_bundle(path.parent)


def _keywords(path: Path) -> object:
    from lreorg_fast.keywords import load_keywords

    return load_keywords(path)


def _training(path: Path) -> object:
    from lreorg_fast.training.config import read_config

    return read_config(path)


def _registry(content: bytes, _folder: Path) -> object:
    from lreorg_fast.weights.registry import read_registry

    return read_registry(content)


def _ledger(path: Path) -> object:
    from lreorg_fast.privacy import LedgerFile

    return LedgerFile(path).report()


def _saved_ledger(path: Path) -> object:
    from lreorg_fast.privacy import Ledger

    return Ledger.load(path).report()


def _pseudonyms(path: Path) -> object:
    from lreorg_fast.privacy import Pseudonyms

    return Pseudonyms(path).people


def _private_key(path: Path) -> object:
    from lreorg_fast.privacy import PrivateKey
    from lreorg_fast.privacy.keys import needs_passphrase

    return PrivateKey.load(path, PASSPHRASE if needs_passphrase(path) else None)


def _public_key(path: Path) -> object:
    from lreorg_fast.privacy import PublicKey

    return PublicKey.load(path)


def _seal(content: bytes, _folder: Path) -> object:
    from lreorg_fast.privacy import PrivateKey, unseal

    return unseal(content, OUTPUT, PrivateKey(PRIVATE_KEY))


def _seal_set(content: bytes, _folder: Path) -> object:
    from lreorg_fast.privacy import PrivateKey
    from lreorg_fast.sealing import opened_scene

    return opened_scene(content, OUTPUT, PrivateKey(PRIVATE_KEY))


def _seal_body(content: bytes, _folder: Path) -> object:
    """What stands inside a seal that opens: anybody with the public key can write that. The first
    byte says which of the four kinds it is."""
    from lreorg_fast.scene.sealed import PARSERS
    from lreorg_fast.video.sealed import parsed_crops, parsed_features

    kinds = (*PARSERS.values(), parsed_features, parsed_crops)
    if not content:
        raise ValueError("empty")
    return kinds[content[0] % 4](content[1:])


def _people(path: Path) -> object:
    from lreorg_fast.privacy import PeopleFile

    return PeopleFile(path).of(path)


def _packed(content: bytes, _folder: Path) -> object:
    from lreorg_fast._native import PackedWeights

    return PackedWeights.from_bytes(content).to_bytes()


def _packed_checksum(content: bytes) -> bytes:
    """As csrc/core/packed.cpp: FNV-1a over 64-bit words, the field itself taken as 0."""
    if len(content) < 64:
        return content
    zeroed = content[:56] + bytes(8) + content[64:]
    value = 0xCBF29CE484222325
    for (word,) in struct.iter_unpack("<Q", zeroed[: len(zeroed) // 8 * 8]):
        value = (value ^ word) * 0x100000001B3 % 2**64
    return zeroed[:56] + struct.pack("<Q", value) + zeroed[64:]


READERS: dict[str, Reader] = {
    "picture": Reader(_as_file(_picture)),
    "checkpoint": Reader(_as_file(_checkpoint)),
    "tensors": Reader(_as_file(_tensors, "a.safetensors")),
    "bundle": Reader(_as_file(_bundle, "bundle.json")),
    "keywords": Reader(_as_file(_keywords, "keywords.json")),
    "training": Reader(_as_file(_training, "config.json")),
    "registry": Reader(_registry),
    "ledger": Reader(_as_file(_ledger)),
    "saved_ledger": Reader(_as_file(_saved_ledger)),
    "pseudonyms": Reader(_as_file(_pseudonyms)),
    "private_key": Reader(_as_file(_private_key)),
    "public_key": Reader(_as_file(_public_key)),
    "seal": Reader(_seal),
    "seal_set": Reader(_seal_set),
    "seal_body": Reader(_seal_body, (LReorgError, ValueError, TypeError, KeyError)),
    "people": Reader(_as_file(_people)),
    "packed": Reader(_packed, (ValueError,), _packed_checksum),
}
