"""Sealed originals: they open with the right key and the right output, and otherwise never."""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lreorg_fast.errors import ConfigError, MissingExtra, OutputError, SealError
from lreorg_fast.privacy import Original, PassphraseCost, PrivateKey, PublicKey, seal, unseal
from lreorg_fast.privacy.keys import needs_passphrase
from lreorg_fast.privacy.sealed import KINDS, seal_track
from lreorg_fast.privacy.subjects import picture_digest

CHEAP = PassphraseCost(iterations=1, lanes=1, memory_kib=8)
TRACK = "face-0"


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return PrivateKey.generate()


@pytest.fixture(scope="module")
def output() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def originals() -> dict[str, Original]:
    generator = np.random.default_rng(2)
    features = {
        name: generator.standard_normal((3, 4)).astype(np.float32) for name in ("identity", "age")
    }
    crop = generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return {"feature": Original(features=features), "crop": Original(crop=crop)}


def same(a: Original, b: Original) -> bool:
    if a.crop is not None or b.crop is not None:
        return a.crop is not None and b.crop is not None and np.array_equal(a.crop, b.crop)
    assert a.features is not None
    assert b.features is not None
    return list(a.features) == list(b.features) and all(
        np.array_equal(a.features[name], b.features[name]) for name in a.features
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_right_key_brings_it_back_exactly(kind: str, key: PrivateKey, output) -> None:
    content = seal(originals()[kind], output, TRACK, key.public)
    opened = unseal(content, output, key)
    assert opened.kind == kind
    assert same(opened, originals()[kind])
    assert seal_track(content) == TRACK


@settings(max_examples=30)
@given(
    keywords=st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=5, unique=True),
    rows=st.integers(1, 18),
    dim=st.integers(1, 40),
    track=st.text(max_size=16).filter(lambda text: "\0" not in text),
)
def test_any_features_survive(keywords, rows, dim, track, key, output) -> None:
    generator = np.random.default_rng(rows * 100 + dim)
    features = {k: generator.standard_normal((rows, dim)).astype(np.float32) for k in keywords}
    content = seal(Original(features=features), output, track, key.public)
    assert same(unseal(content, output, key), Original(features=features))
    assert seal_track(content) == track


def test_every_byte_flipped_is_refused(key: PrivateKey, output) -> None:
    content = seal(originals()["feature"], output, TRACK, key.public)
    assert len(content) > 4096
    accepted = 0
    for at in range(len(content)):
        damaged = bytearray(content)
        damaged[at] ^= 1 << at % 8
        try:
            unseal(bytes(damaged), output, key)
            accepted += 1
        except SealError:
            pass
    assert accepted == 0


def test_a_thousand_wrong_keys_are_refused(key: PrivateKey, output) -> None:
    content = seal(originals()["crop"], output, TRACK, key.public)
    accepted = 0
    for _ in range(1000):
        try:
            unseal(content, output, PrivateKey(secrets.token_bytes(32)))
            accepted += 1
        except SealError:
            pass
    assert accepted == 0


def test_every_shorter_and_longer_file_is_refused(key: PrivateKey, output) -> None:
    content = seal(originals()["crop"], output, TRACK, key.public)
    lengths = [*range(200), *range(200, len(content), 97)]
    for damaged in (*(content[:n] for n in lengths), content + b"\0", content + bytes(4096)):
        with pytest.raises(SealError):
            unseal(damaged, output, key)


def test_a_seal_fits_its_own_output_only(key: PrivateKey, output) -> None:
    content = seal(originals()["feature"], output, TRACK, key.public)
    edited = output.copy()
    edited[0, 0, 0] ^= 1
    others = [edited, 255 - output, output[:, ::-1], output[:4], output.reshape(4, 16, 3)]
    for other in others:
        with pytest.raises(SealError, match="another output"):
            unseal(content, other, key)


def test_a_seal_moved_to_another_track_or_kind_does_not_open(key: PrivateKey, output) -> None:
    content = seal(originals()["feature"], output, "face-0", key.public)
    for old, new in ((b"face-0", b"face-1"), (b"\x01\x00face", b"\x02\x00face")):
        moved = content.replace(old, new, 1)
        assert moved != content
        with pytest.raises(SealError, match="does not open"):
            unseal(moved, output, key)


def test_two_seals_of_one_thing_have_nothing_in_common(key: PrivateKey, output) -> None:
    first, second = (seal(originals()["crop"], output, TRACK, key.public) for _ in range(2))
    header = 8 + 2 + 2 + 64
    assert first[:header] == second[:header]
    equal = sum(a == b for a, b in zip(first[header:], second[header:], strict=True))
    assert equal < 60  # of 4,144; 16 are expected by chance


def test_the_length_tells_nothing_of_the_content(key: PrivateKey, output) -> None:
    noise = originals()["crop"].crop
    assert noise is not None
    lengths = {
        len(seal(Original(crop=crop), output, TRACK, key.public))
        for crop in (noise, np.zeros_like(noise), np.full_like(noise, 255))
    }
    lengths |= {len(seal(item, output, TRACK, key.public)) for item in originals().values()}
    assert len(lengths) == 1


def test_the_public_key_cannot_open(key: PrivateKey, output) -> None:
    content = seal(originals()["crop"], output, TRACK, key.public)
    with pytest.raises(SealError):
        unseal(content, output, PrivateKey(key.public.raw))


def test_nothing_of_the_original_is_in_the_seal(key: PrivateKey, output) -> None:
    crop = np.frombuffer(b"CANARY-7f3a!" * 16, np.uint8).reshape(8, 8, 3)
    content = seal(Original(crop=crop), output, TRACK, key.public)
    assert b"CANARY" not in content
    assert "CANARY" not in repr(Original(crop=crop))


@pytest.mark.parametrize("raw", [bytes(32), b"\1" + bytes(31)], ids=["zero", "one"])
def test_points_of_small_order_are_refused(raw: bytes, key: PrivateKey, output) -> None:
    """They give every private key the same secret."""
    with pytest.raises(SealError, match="is none"):
        seal(originals()["crop"], output, TRACK, PublicKey(raw))
    content = bytearray(seal(originals()["crop"], output, TRACK, key.public))
    content[76:108] = raw
    with pytest.raises(SealError):
        unseal(bytes(content), output, key)


def _sealed_body(body: bytes, code: int, output: np.ndarray, key: PrivateKey) -> bytes:
    """Anybody can seal anything: the format by hand, as the page describes it."""
    import struct

    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    ephemeral = X25519PrivateKey.generate()
    public = ephemeral.public_key().public_bytes_raw()
    header = struct.pack("<8sHH64s32s", b"LREORGSL", 1, code, b"t", public)
    shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(key.public.raw))
    info = b"lreorg seal v1" + public + key.public.raw
    derived = HKDF(algorithm=SHA256(), length=44, salt=None, info=info).derive(shared)
    padded = body + bytes(-len(body) % 4096)
    sealed = AESGCM(derived[:32]).encrypt(derived[32:], padded, header + picture_digest(output))
    return header + sealed


def _body(shapes: object, numbers: bytes = b"", size: int | None = None) -> bytes:
    text = json.dumps(shapes).encode()
    return (len(text) if size is None else size).to_bytes(4, "little") + text + numbers


FOUR = np.ones(4, "<f4").tobytes()


def test_the_format_is_the_one_on_the_page(key: PrivateKey, output) -> None:
    content = _sealed_body(_body([["identity", 1, 4]], FOUR), 1, output, key)
    features = unseal(content, output, key).features
    assert features is not None
    assert features["identity"].tolist() == [[1.0] * 4]


@pytest.mark.parametrize(
    ("code", "body"),
    [
        (1, b"x"),
        (1, b"\xff" * 100),
        (1, _body({})),
        (1, _body([])),
        (1, _body("identity")),
        (1, _body([1])),
        (1, _body([["identity", 1, 4]])[:-1] + b"["),
        (1, _body([["identity", 1, 4]], FOUR, size=2**32 - 1)),
        (1, _body([["identity", 4]], FOUR)),
        (1, _body([["identity", -1, -4]], FOUR)),
        (1, _body([["identity", True, 4]], FOUR)),
        (1, _body([["identity", 0, 4]], FOUR)),
        (1, _body([["identity", 2**31, 2**31]], FOUR)),
        (1, _body([["identity", 1, 10**6]], FOUR)),
        (1, _body([["identity", 1, 4], ["identity", 1, 4]], FOUR * 2)),
        (1, _body([[7, 1, 4]], FOUR)),
        (1, _body([["", 1, 4]], FOUR)),
        (1, _body([["identity", 1, 4]], np.full(4, np.nan, "<f4").tobytes())),
        (1, _body([["identity", 1, 4]], FOUR + b"hidden")),
        (1, _body([["identity", 1, 4]], FOUR + bytes(8192))),
        (1, _body([[f"k{i}", 1, 1] for i in range(100)], FOUR * 25)),
        (2, _body([["crop", 2, 2, 3], ["more", 2, 2, 3]], bytes(24))),
        (2, _body([["face", 2, 2, 3]], bytes(12))),
        (2, _body([["crop", 2, 2, 4]], bytes(16))),
        (2, _body([["crop", 10**5, 10**5, 3]], bytes(12))),
    ],
)
def test_what_opens_and_is_no_original_is_refused(code, body, key: PrivateKey, output) -> None:
    with pytest.raises(SealError, match="holds no original"):
        unseal(_sealed_body(body, code, output, key), output, key)


def test_an_unknown_kind_or_version_is_refused(key: PrivateKey, output) -> None:
    with pytest.raises(SealError, match="no seal of version"):
        unseal(_sealed_body(_body([["identity", 1, 4]], FOUR), 3, output, key), output, key)


@pytest.mark.parametrize("track", ["x" * 65, "\u00e9" * 33, "a\0b"])
def test_a_track_has_a_size(track: str, key: PrivateKey, output) -> None:
    with pytest.raises(ConfigError, match="track"):
        seal(originals()["crop"], output, track, key.public)


def test_an_original_is_one_of_two_things() -> None:
    item = originals()
    with pytest.raises(ConfigError, match="one of them"):
        Original()
    with pytest.raises(ConfigError, match="one of them"):
        Original(features=item["feature"].features, crop=item["crop"].crop)
    with pytest.raises(ConfigError, match="features"):
        Original(features={})
    with pytest.raises(ConfigError, match="uint8"):
        Original(crop=np.zeros((2, 2, 3)))  # type: ignore[arg-type]


# ---- keys


@pytest.mark.parametrize("passphrase", [None, "correct horse", "\u00e9\u20ac \U0001f40e"])
def test_a_pair_survives_its_files(tmp_path: Path, key: PrivateKey, passphrase) -> None:
    key.save(tmp_path / "a.key", passphrase, CHEAP)
    key.public.save(tmp_path / "a.pub")
    assert needs_passphrase(tmp_path / "a.key") == (passphrase is not None)
    assert PrivateKey.load(tmp_path / "a.key", passphrase) == key
    assert PublicKey.load(tmp_path / "a.pub") == key.public
    assert (tmp_path / "a.key").stat().st_mode & 0o777 == 0o600
    assert (key.raw.hex() in (tmp_path / "a.key").read_text()) == (passphrase is None)
    assert key.raw.hex() not in (tmp_path / "a.pub").read_text()


def test_the_normal_form_of_a_passphrase_does_not_matter(tmp_path: Path, key: PrivateKey) -> None:
    key.save(tmp_path / "a.key", "\u00e9", CHEAP)
    assert PrivateKey.load(tmp_path / "a.key", "e\u0301") == key


def test_a_wrong_passphrase_is_an_error(tmp_path: Path, key: PrivateKey) -> None:
    key.save(tmp_path / "a.key", "right", CHEAP)
    key.save(tmp_path / "b.key", None)
    for wrong in ("Right", "right ", "", "left"):
        with pytest.raises(SealError, match="passphrase is wrong"):
            PrivateKey.load(tmp_path / "a.key", wrong)
    with pytest.raises(SealError, match="has a passphrase; give it"):
        PrivateKey.load(tmp_path / "a.key")
    with pytest.raises(SealError, match="has no passphrase; leave it out"):
        PrivateKey.load(tmp_path / "b.key", "right")
    with pytest.raises(ConfigError, match="empty"):
        key.save(tmp_path / "c.key", "")
    assert not (tmp_path / "c.key").exists()


def test_keys_are_never_replaced(tmp_path: Path, key: PrivateKey) -> None:
    for save in (lambda p: key.save(p, None), lambda p: key.public.save(p)):
        path = tmp_path / secrets.token_hex(4)
        path.write_text("the only copy")
        with pytest.raises(OutputError, match="exists already"):
            save(path)
        assert path.read_text() == "the only copy"


def test_the_default_cost_is_that_of_the_standard(tmp_path: Path, key: PrivateKey) -> None:
    key.save(tmp_path / "a.key", "right")
    stored = json.loads((tmp_path / "a.key").read_text())["argon2id"]
    assert (stored["iterations"], stored["lanes"], stored["memory_kib"]) == (3, 4, 65536)


def _key_file(tmp_path: Path, key: PrivateKey, passphrase: str | None, change) -> Path:
    path = tmp_path / "made.key"
    key.save(path, passphrase, CHEAP)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


PLAIN_CHANGES = {
    "version": lambda c: c.update(version=2),
    "format": lambda c: c.update(format="x"),
    "more": lambda c: c.update(more=1),
    "less": lambda c: c.pop("public"),
    "short": lambda c: c.update(private="00"),
    "no hex": lambda c: c.update(private="z" * 64),
    "number": lambda c: c.update(private=7),
    "another pair": lambda c: c.update(private="01" * 32),
    "null": lambda c: c.update(private=None),
}
PROTECTED_CHANGES = {
    "40 GB": lambda c: c["argon2id"].update(memory_kib=40 << 20),
    "for ever": lambda c: c["argon2id"].update(iterations=2**31),
    "many lanes": lambda c: c["argon2id"].update(lanes=2**24),
    "no memory": lambda c: c["argon2id"].update(memory_kib=0),
    "negative": lambda c: c["argon2id"].update(iterations=-1),
    "text": lambda c: c["argon2id"].update(iterations="3"),
    "bool": lambda c: c["argon2id"].update(lanes=True),
    "unknown": lambda c: c["argon2id"].update(more=1),
    "no salt": lambda c: c["argon2id"].pop("salt"),
    "short salt": lambda c: c["argon2id"].update(salt="00"),
    "list": lambda c: c.update(argon2id=[]),
    "nonce": lambda c: c.update(nonce="00"),
    "cut": lambda c: c.update(sealed_private=c["sealed_private"][:-2]),
    "changed": lambda c: c.update(sealed_private="00" * 48),
    "another public key": lambda c: c.update(public="02" * 32),
}


@pytest.mark.parametrize("name", PLAIN_CHANGES)
def test_a_hostile_key_is_refused(tmp_path: Path, key: PrivateKey, name: str) -> None:
    path = _key_file(tmp_path, key, None, PLAIN_CHANGES[name])
    with pytest.raises(SealError) as caught:
        PrivateKey.load(path)
    assert key.raw.hex() not in str(caught.value)


@pytest.mark.parametrize("name", PROTECTED_CHANGES)
def test_a_hostile_protected_key_is_refused_before_memory_is_taken(
    tmp_path: Path, key: PrivateKey, name: str
) -> None:
    path = _key_file(tmp_path, key, "right", PROTECTED_CHANGES[name])
    with pytest.raises(SealError):
        PrivateKey.load(path, "right")


def test_what_is_no_key_file_is_refused(tmp_path: Path, key: PrivateKey) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b" " * (1 << 17))
    (tmp_path / "deep").write_bytes(b"[" * 60_000)
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    key.public.save(tmp_path / "a.pub")
    key.save(tmp_path / "a.key", None)
    for name in ("pipe", "large", "deep", "binary", "missing", "nul\0", "", "a.pub"):
        with pytest.raises(SealError):
            PrivateKey.load(tmp_path / name)
    for name in ("pipe", "large", "deep", "binary", "missing", "nul\0", "", "a.key"):
        with pytest.raises(SealError):
            PublicKey.load(tmp_path / name)
    for text in ("", "lreorg-seal-public-key-v1", "lreorg-seal-public-key-v2 " + "00" * 32):
        (tmp_path / "text").write_text(text)
        with pytest.raises(SealError):
            PublicKey.load(tmp_path / "text")


def test_a_key_shows_itself_nowhere(key: PrivateKey) -> None:
    for text in (repr(key), str(key), f"{key}"):
        assert text == "PrivateKey()"


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, output) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.kdf.argon2", None)
    with pytest.raises(MissingExtra, match=r"lreorg_fast\[seal\]"):
        PrivateKey.generate()
    with pytest.raises(MissingExtra, match=r"lreorg_fast\[seal\]"):
        seal(originals()["crop"], output, TRACK, PublicKey(b"\2" * 32))
