"""Pseudonyms: the same draws for a person in every file, from a secret that can be deleted."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import chisquare

from lreorg_fast.errors import ConfigError, PrivacyError
from lreorg_fast.privacy import (
    AttributeAnonymizer,
    Codebook,
    GroupIdentityAnonymizer,
    Ledger,
    LedgerFile,
    Pseudonyms,
    PseudonymSampler,
    Subjects,
    Uniform,
    make_mechanism,
)
from lreorg_fast.privacy.randomness import check_tracks, sampler_for

KEY = bytes(range(32))
CANARY = "Anna-Musterfrau-7f3a"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    Pseudonyms(tmp_path / "people", create=True)
    return tmp_path / "people"


def numbers(sampler: PseudonymSampler, n: int, count: int) -> list[int]:
    return [sampler.randbelow(n) for _ in range(count)]


def test_the_same_person_and_context_draw_the_same(path: Path) -> None:
    first = numbers(Pseudonyms(path).sampler("anna"), 256, 20)
    assert numbers(Pseudonyms(path).sampler("anna"), 256, 20) == first
    assert numbers(Pseudonyms(path).sampler("anna", "2027"), 256, 20) != first
    assert numbers(Pseudonyms(path).sampler("bert"), 256, 20) != first


def test_the_order_of_keywords_changes_nothing() -> None:
    sampler = PseudonymSampler(KEY, "t", "c")
    identity = numbers(sampler_for(sampler, "identity"), 256, 8)
    numbers(sampler, 256, 3)
    assert numbers(sampler_for(sampler, "identity"), 256, 8) == identity
    assert numbers(sampler_for(sampler, "age"), 256, 8) != identity


@pytest.mark.parametrize("n", [1, 2, 3, 5, 256, 257, 2**40 + 1, 2**300 + 1])
def test_every_range_is_kept(n: int) -> None:
    drawn = numbers(PseudonymSampler(KEY, "t", f"{n}"), n, 200)
    assert all(0 <= number < n for number in drawn)
    assert n == 1 or max(drawn) >= n // 2 > min(drawn)  # chance of failing is 2^-200


@pytest.mark.parametrize("n", [3, 5, 200, 257])
def test_rejection_leaves_no_number_likelier(n: int) -> None:
    counts = np.bincount(numbers(PseudonymSampler(KEY, "t", "c"), n, 40 * n + 4000), minlength=n)
    assert chisquare(counts).pvalue > 1e-6


def test_the_same_check_finds_a_remainder_in_the_place_of_rejection() -> None:
    sampler = PseudonymSampler(KEY, "t", "c")
    biased = np.bincount([byte % 200 for byte in numbers(sampler, 256, 12_000)], minlength=200)
    assert chisquare(biased).pvalue < 1e-6


def test_draws_are_those_of_hmac_sha256() -> None:
    """RFC 2104 by hand: another implementation of this package must give the same people."""
    import hashlib

    def mac(key: bytes, message: bytes) -> bytes:
        block = key.ljust(64, b"\0")
        inner = hashlib.sha256(bytes(b ^ 0x36 for b in block) + message).digest()
        return hashlib.sha256(bytes(b ^ 0x5C for b in block) + inner).digest()

    wanted = [mac(KEY, b"c\0identity\0" + i.to_bytes(8, "big"))[0] for i in range(5)]
    assert numbers(PseudonymSampler(KEY, "t", "c").of("identity"), 256, 5) == wanted


@pytest.mark.parametrize("key", [b"", b"x" * 31, b"x" * 33, "x" * 32, None])
def test_only_a_whole_key_is_taken(key: object) -> None:
    with pytest.raises(ConfigError, match="32 random bytes"):
        PseudonymSampler(key, "t", "c")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["window-rr", "paper-window", "laplace"])
def test_mechanisms_that_look_at_the_face_do_not_take_it(name: str) -> None:
    """Two pictures have two rankings, and one secret drawn on both tells more than epsilon."""
    with pytest.raises(ConfigError, match="looks at the face"):
        make_mechanism(name, None, 16, sampler=PseudonymSampler(KEY, "t", "c"))
    with pytest.raises(ConfigError, match="looks at the face"):
        AttributeAnonymizer(np.eye(2), "randomized", 1.0, PseudonymSampler(KEY, "t", "c"))


def test_a_pseudonym_is_the_same_for_every_face_and_costs_nothing() -> None:
    generator = np.random.default_rng(9)
    codebook = Codebook(
        generator.standard_normal((256, 16)), generator.standard_normal((256, 8, 16))
    )

    def drawn(face: np.ndarray, sampler: PseudonymSampler):
        mechanism = Uniform(256, sampler)
        return GroupIdentityAnonymizer(codebook, mechanism).replacement(face)

    faces = generator.standard_normal((20, 14, 16))
    made = [drawn(face, PseudonymSampler(KEY, "t", "c")) for face in faces]
    assert len({item.feature.tobytes() for item in made}) == 1
    assert made[0].epsilon == 0
    assert "linkable by design" in made[0].guarantee
    others = {drawn(faces[0], PseudonymSampler(KEY, "t", str(i))).group for i in range(20)}
    assert len(others) > 1


def test_the_file_is_private_and_keys_are_random(path: Path) -> None:
    keys = Pseudonyms(path)
    tracks = {keys.sampler(f"person {i}").track for i in range(20)}
    content = json.loads(path.read_text())["people"]
    assert len(tracks) == len({entry["key"] for entry in content.values()}) == 20
    assert path.stat().st_mode & 0o777 == 0o600
    assert set(keys.people.values()) == tracks
    # A key made from the label would be the same in another file.
    Pseudonyms(path.with_name("other"), create=True).sampler("person 0")
    other = json.loads(path.with_name("other").read_text())["people"]["person 0"]
    assert other["key"] != content["person 0"]["key"]
    assert other["track"] != content["person 0"]["track"]


def test_a_deleted_person_is_another_one_afterwards(path: Path) -> None:
    before = Pseudonyms(path).sampler("anna")
    Pseudonyms(path).sampler("bert")
    Pseudonyms(path).delete("anna")
    assert list(Pseudonyms(path).people) == ["bert"]
    assert "anna" not in path.read_text()
    after = Pseudonyms(path).sampler("anna")
    assert after.track != before.track
    assert numbers(after, 2**64, 4) != numbers(before, 2**64, 4)
    with pytest.raises(ConfigError, match="no such person"):
        Pseudonyms(path).delete("carl")


def test_made_on_request_and_never_over_another(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--create"):
        Pseudonyms(tmp_path / "missing")
    assert not (tmp_path / "missing").exists()
    content = path.read_bytes()
    with pytest.raises(ConfigError, match="exist already"):
        Pseudonyms(path, create=True)
    assert path.read_bytes() == content


def test_secrets_are_in_no_text_and_no_log(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        keys = Pseudonyms(path)
        sampler = keys.sampler(CANARY)
        Uniform(4, sampler).draw(np.arange(4.0))
    key = json.loads(path.read_text())["people"][CANARY]["key"]
    texts = [repr(sampler), repr(keys), caplog.text, repr(keys._read())]
    with pytest.raises(ConfigError) as caught:
        check_tracks(sampler, ["another"])
    for text in (*texts, str(caught.value)):
        assert key not in text
        assert repr(bytes.fromhex(key)) not in text
    assert CANARY not in caplog.text + repr(sampler) + repr(keys)


def test_a_file_that_others_can_read_is_said(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lreorg_fast.log._said", set())
    path.chmod(0o644)
    Pseudonyms(path)
    assert "chmod 600" in caplog.text


EMPTY = {"format": "lreorg-pseudonyms", "version": 1, "people": {}}
ENTRY = {"key": "11" * 32, "track": "pseudonym-0123"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b"[" * 100_000,
        b'{"people": {}, "people": {}}',
        *(
            json.dumps(
                {"format": "lreorg-pseudonyms", "version": 1, "people": {}} | change
            ).encode()
            for change in (
                {"version": 2},
                {"format": "x"},
                {"more": 1},
                {"people": []},
                {"people": {"a": 1}},
                {"people": {"a": ENTRY | {"key": "11"}}},
                {"people": {"a": ENTRY | {"key": "zz" * 32}}},
                {"people": {"a": ENTRY | {"key": 5}}},
                {"people": {"a": ENTRY | {"track": "person"}}},
                {"people": {"a": ENTRY | {"track": "pseudonym-../x"}}},
                {"people": {"a": ENTRY | {"more": 1}}},
                {"people": {"a": ENTRY, "b": ENTRY | {"track": "pseudonym-1"}}},
                {"people": {"a": ENTRY, "b": ENTRY | {"key": "22" * 32}}},
            )
        ),
    ],
    ids=lambda content: content[:70].decode("utf-8", "replace"),
)
def test_a_hostile_file_is_refused_and_shows_no_key(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(PrivacyError, match="cannot be read") as caught:
        Pseudonyms(path)
    assert "1111" not in str(caught.value)
    assert path.read_bytes() == content


def test_links_and_pipes_are_refused(path: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(path)
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(PrivacyError):
            Pseudonyms(tmp_path / name)


@pytest.mark.parametrize("label", ["", "x" * 1001, None, 7])
def test_labels_have_a_size(path: Path, label: object) -> None:
    with pytest.raises(ConfigError, match="label"):
        Pseudonyms(path).sampler(label)  # type: ignore[arg-type]


PICTURE = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


def test_subjects_without_anything_are_as_before() -> None:
    assert Subjects(Ledger()).of(Path("a.png"), PICTURE).arguments() == {}


def test_a_file_counts_a_picture_by_its_pixels(tmp_path: Path) -> None:
    ledger = LedgerFile(tmp_path / "ledger", 5.0)
    subjects = Subjects(ledger)
    first = subjects.of(Path("a.png"), PICTURE)
    assert first.track == subjects.of(Path("copy.png"), PICTURE.copy()).track
    assert first.track != subjects.of(Path("a.png"), PICTURE + 1).track
    assert first.track != subjects.of(Path("a.png"), PICTURE.reshape(2, 8, 3)).track
    assert first.alone


def test_named_people_are_counted_together(tmp_path: Path, path: Path) -> None:
    def person(source: Path) -> str:
        return source.parent.name

    a, b = Path("anna/1.png"), Path("bert/1.png")
    for ledger in (Ledger(), LedgerFile(tmp_path / "ledger", 5.0)):
        subjects = Subjects(ledger, person)
        assert subjects.of(a, PICTURE) == subjects.of(a, PICTURE + 1)
        assert subjects.of(a, PICTURE).track != subjects.of(b, PICTURE).track
        assert "anna" not in str(subjects.of(a, PICTURE).track)
        assert not subjects.of(a, PICTURE).alone
        assert "counted together" in subjects.statement
    keyed = Subjects(Ledger(), person, Pseudonyms(path))
    assert keyed.of(a, PICTURE).track == Pseudonyms(path).people["anna"]
    assert "not anonymous" in keyed.statement
    with pytest.raises(ConfigError, match="nobody is named"):
        Subjects(Ledger(), None, Pseudonyms(path))
