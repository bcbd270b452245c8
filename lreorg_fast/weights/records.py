"""Where the bytes of tensors lie in a file, and in the records of a zip archive.

Nothing is decompressed: torch stores its records as they are, so each is a stretch of the file
that can be read when it is asked for.
"""

from __future__ import annotations

import struct
import zipfile
from dataclasses import dataclass
from typing import BinaryIO, cast

from lreorg_fast.errors import CheckpointError
from lreorg_fast.weights.pickles import PickleRefused

_MOST_RECORDS = 200_000
_MOST_DIRECTORY_BYTES = 16 * 2**20
_ZIP_RECORD = b"PK\x03\x04"


@dataclass(frozen=True)
class FileBytes:
    """A stretch of an open file."""

    stream: BinaryIO
    begin: int
    size: int

    def read_into(self, target: memoryview, offset: int) -> None:
        self.stream.seek(self.begin + offset)
        position = 0
        while position < len(target):
            count = self.stream.readinto(target[position:])  # type: ignore[attr-defined]
            if not count:
                raise CheckpointError("a weights file became shorter while it was read; try again")
            position += count

    def content(self) -> bytes:
        """All of it."""
        made = bytearray(self.size)
        self.read_into(memoryview(made), 0)
        return bytes(made)


def zip_records(stream: BinaryIO, size: int) -> dict[str, FileBytes]:
    """Name -> place of every record of a zip archive, except TorchScript's code.

    Raises:
        PickleRefused: compressed, overlapping, ambiguous, cut short, or with too many records.
    """
    stream.seek(0)
    try:
        entries = zipfile.ZipFile(cast(BinaryIO, _SmallReads(stream))).infolist()
    except PickleRefused:
        raise
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, struct.error) as error:
        raise PickleRefused(
            f"its zip directory cannot be read ({error!s:.60}); the download may be cut short"
        ) from error
    if len(entries) > _MOST_RECORDS:
        raise PickleRefused(f"it has {len(entries)} records, more than any weights need")
    records: dict[str, FileBytes] = {}
    spans: list[tuple[int, int]] = []
    for entry in entries:
        if entry.filename.split("/")[1:2] == ["code"]:
            continue  # TorchScript's, compressed, and never looked at
        stored = entry.compress_type == zipfile.ZIP_STORED and not entry.flag_bits & 1
        if not stored or entry.compress_size != entry.file_size:
            raise PickleRefused("it is compressed or encrypted, which torch never does")
        if entry.filename in records:
            raise PickleRefused(f"it holds the record '{entry.filename!s:.60}' twice")
        begin = _record_begin(stream, entry, size)
        if begin + entry.file_size > size:
            raise PickleRefused("a record reaches beyond its end; the download may be cut short")
        records[entry.filename] = FileBytes(stream, begin, entry.file_size)
        spans.append((entry.header_offset, begin + entry.file_size))
    _check_overlap(spans)
    return records


class _SmallReads:
    """Refuses the one read of ``zipfile`` that a file can make large: that of its directory."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, count: int = -1) -> bytes:
        if count > _MOST_DIRECTORY_BYTES:
            raise PickleRefused(f"its zip directory has {count} bytes, more than any weights need")
        return self._stream.read(count)


def _record_begin(stream: BinaryIO, entry: zipfile.ZipInfo, size: int) -> int:
    """Behind the local header (APPNOTE.TXT 4.3.7), whose padding aligns torch's records.

    Its name must be that of the directory, or other readers see another file than this one.
    """
    inside = 0 <= entry.header_offset <= size - 30
    stream.seek(entry.header_offset if inside else size)
    header = stream.read(30)
    if len(header) < 30 or header[:4] != _ZIP_RECORD:
        raise PickleRefused("its zip directory points to nothing; the download may be cut short")
    name_length, extra_length = struct.unpack("<HH", header[26:30])
    encoding = "utf-8" if entry.flag_bits & 0x800 else "cp437"
    if stream.read(name_length) != entry.filename.encode(encoding):
        raise PickleRefused("its zip directory names other records than it holds")
    return entry.header_offset + 30 + int(name_length) + int(extra_length)


def _check_overlap(spans: list[tuple[int, int]]) -> None:
    position = 0
    for begin, end in sorted(spans):
        if begin < position:
            raise PickleRefused("its records overlap; fetch it again from its authors")
        position = end
