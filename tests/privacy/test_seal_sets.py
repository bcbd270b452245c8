"""Sections of several chunks: whole, in order, about one thing, or not at all."""

from __future__ import annotations

import contextlib
from io import BytesIO

import pytest

from lreorg_fast.errors import ConfigError, LReorgError, SealError
from lreorg_fast.privacy import PrivateKey, PublicKey
from lreorg_fast.privacy import seal_sets as sets
from lreorg_fast.privacy.seal_sets import SectionSealer, SetHeader, check_end, opened_section

KEY = PrivateKey(bytes(range(32)))
DIGEST = bytes(32)
BODIES = [bytes([i]) * 4096 * (i + 1) for i in range(3)]
HEADER = SetHeader.fresh("crop", "video", 2, 10)


def chunks(number: int = 0, header: SetHeader = HEADER) -> list[bytes]:
    """The head and the chunks of one section."""
    section = SectionSealer(header, number, "segment-0", KEY.public)
    return [
        section.head,
        *(section.chunk(body) for body in BODIES[:-1]),
        section.last(BODIES[-1], DIGEST),
    ]


def opened(
    parts: list[bytes],
    number: int = 0,
    digest: bytes = DIGEST,
    key: PrivateKey = KEY,
    header: SetHeader = HEADER,
) -> list[bytes]:
    stream = BytesIO(b"".join(parts))
    found = list(opened_section(stream, header, number, key, digest))
    check_end(stream)
    return found


def test_chunks_come_back_in_their_order() -> None:
    assert opened(chunks()) == BODIES


def test_what_is_handed_out_before_the_end_is_genuine() -> None:
    """A damaged second chunk: the first one is what was sealed, and then it ends."""
    parts = chunks()
    parts[2] = parts[2][:-1] + bytes([parts[2][-1] ^ 1])
    section = opened_section(BytesIO(b"".join(parts)), HEADER, 0, KEY, DIGEST)
    assert next(section) == BODIES[0]
    with pytest.raises(SealError):
        next(section)


@pytest.mark.parametrize(
    "order",
    [(0, 1, 2), (0, 1, 3), (0, 3), (0, 2, 1, 3), (0, 1, 1, 2, 3), (0, 1, 2, 3, 3), (1, 2, 3), ()],
    ids=str,
)
def test_missing_moved_and_repeated_chunks_are_refused(order: tuple[int, ...]) -> None:
    parts = chunks()
    with pytest.raises(SealError):
        opened([parts[i] for i in order])


def test_chunks_of_other_sections_are_refused() -> None:
    parts, others = chunks(), chunks()
    for i in range(4):
        with pytest.raises(SealError):
            opened([*parts[:i], others[i], *parts[i + 1 :]])


def test_marks_of_the_last_chunk_cannot_be_changed() -> None:
    parts = chunks()
    early = parts[2][:4] + b"\1" + parts[2][5:]
    late = parts[3][:4] + b"\0" + parts[3][5:]
    for edited in ([*parts[:2], early], [*parts[:3], late], [*parts[:3], late, parts[3]]):
        with pytest.raises(SealError):
            opened(edited)


def test_the_mark_is_bound_without_a_digest_too() -> None:
    """The nonce alone says which chunk is the last: a section about nothing cannot be cut."""
    section = SectionSealer(HEADER, 0, "", KEY.public)
    first, last = section.chunk(BODIES[0]), section.last(BODIES[1], b"")
    assert opened([section.head, first, last], digest=b"") == BODIES[:2]
    cut = first[:4] + b"\1" + first[5:]
    with pytest.raises(SealError):
        opened([section.head, cut], digest=b"")


def test_a_section_fits_one_place_of_one_file_about_one_thing() -> None:
    parts = chunks()
    for changed in (
        {"number": 1},
        {"digest": bytes(31) + b"\1"},
        {"key": PrivateKey.generate()},
        {"header": SetHeader.fresh("crop", "video", 2, 10)},
        {"header": SetHeader("crop", "video", 3, 10, HEADER.identity)},
        {"header": SetHeader("crop", "video", 2, 11, HEADER.identity)},
        {"header": SetHeader("feature", "video", 2, 10, HEADER.identity)},
        {"header": SetHeader("crop", "picture", 2, 0, HEADER.identity)},
    ):
        with pytest.raises(SealError):
            opened(parts, **changed)  # type: ignore[arg-type]
    relabelled = b"segment-1" + parts[0][9:]
    with pytest.raises(SealError):
        opened([relabelled, *parts[1:]])


@pytest.mark.parametrize(
    "size", [0, 1, 16, 17, 4096, 4111, 4113, (256 << 20) + 4096 + 16, 2**32 - 1]
)
def test_impossible_sizes_are_refused_before_they_are_read(size: int) -> None:
    content = chunks()[0] + sets._CHUNK.pack(size, 1) + bytes(5000)
    with pytest.raises(SealError, match="impossible size"):
        opened([content])


def test_headers_come_back_and_others_are_refused() -> None:
    assert SetHeader.read(BytesIO(HEADER.raw)) == HEADER
    raw = HEADER.raw
    for i in range(len(raw) - 16):  # all but the random number
        for value in {0, 255} - {raw[i]}:
            edited = raw[:i] + bytes([value]) + raw[i + 1 :]
            with contextlib.suppress(SealError):
                assert SetHeader.read(BytesIO(edited)) != HEADER
    for content in (b"", raw[:-1], b"LREORGSL" + raw[8:], raw[:8] + b"\2" + raw[9:]):
        with pytest.raises(SealError):
            SetHeader.read(BytesIO(content))
    for wrong in (("face", "video", 1, 1), ("crop", "film", 1, 1), ("crop", "video", 0, 1),
                  ("crop", "video", 1, 0), ("crop", "picture", 1, 5)):  # fmt: skip
        with pytest.raises(ConfigError):
            SetHeader.fresh(*wrong)


def test_what_cannot_be_sealed_is_an_error() -> None:
    with pytest.raises(ConfigError, match="64"):
        SectionSealer(HEADER, 0, "x" * 65, KEY.public)
    with pytest.raises(SealError, match="none"):
        SectionSealer(HEADER, 0, "", PublicKey(bytes(32)))
    section = SectionSealer(HEADER, 0, "", KEY.public)
    for body in (b"", bytes(4095), bytes(4097)):
        with pytest.raises(LReorgError):
            section.chunk(body)
