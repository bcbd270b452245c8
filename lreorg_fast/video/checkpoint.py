"""What an interrupted run leaves behind, so that it can go on: never a pixel of the source.

A folder beside the output, readable by its owner only, holds finished segments (anonymized and
verified), the boxes and landmarks of the faces, and the draws that the segments already show. All
of it is checked by SHA-256 before it is used again.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lreorg_fast.errors import OutputError, PrivacyError, VideoError
from lreorg_fast.faces.shots import LOOK, Looks
from lreorg_fast.faces.track_plan import DetectionTable
from lreorg_fast.files import atomic_file, parse_json
from lreorg_fast.media.segments import PacketRecord, Segment
from lreorg_fast.privacy import Replacement

_FORMAT, _VERSION = "lreorg-video", 2
_MOST_BYTES = 256 << 20
_BLOCK = 1 << 20


@dataclass
class Found:
    """The first pass over a stretch of frames.

    Attributes:
        table: detections per frame.
        times, durations: (frames,) in units of the source's time base.
        blind: numbers of frames, counted from the start of the clip, that the detector could not
            judge.
        looks: (frames, LOOK) uint8, by which cuts are found.
    """

    table: DetectionTable = field(default_factory=DetectionTable)
    times: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    durations: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    blind: tuple[int, ...] = ()
    looks: Looks = field(default_factory=lambda: np.zeros((0, LOOK), np.uint8))

    @classmethod
    def joined(cls, parts: list[Found]) -> Found:
        """One stretch after another."""
        if not parts:
            return cls()
        return cls(
            DetectionTable.joined([part.table for part in parts]),
            np.concatenate([part.times for part in parts]),
            np.concatenate([part.durations for part in parts]),
            tuple(number for part in parts for number in part.blind),
            np.concatenate([part.looks for part in parts]),
        )


def fingerprint(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


class Checkpoint:
    """The work folder of one run.

    Args:
        target: the output that is being made.
        identity: what must be the same for a run to go on: source, settings, bundle.
        resume: go on with what is there; without it an earlier folder is an error.
        restart: throw an earlier folder away.
        label: under which a new run is counted; None makes a random one.

    Raises:
        OutputError: the folder is in the way or cannot be made.
        VideoError: ``resume``, and the folder is of another video or of other settings.
    """

    def __init__(
        self,
        target: Path,
        identity: Mapping[str, Any],
        resume: bool,
        restart: bool,
        label: str | None = None,
    ) -> None:
        self.folder = target.with_name(f".{target.name}.lreorg-work")
        identity = json.loads(json.dumps(identity, sort_keys=True))
        if restart and not resume:
            self.remove()
        if self.folder.is_symlink() or os.path.lexists(self.folder):
            self.label = self._reopened(identity, resume)
        else:
            self.label = label or f"video-{os.urandom(4).hex()}"
            self._make(identity)

    def remove(self) -> None:
        """Delete everything: the run is done, or cannot go on."""
        if self.folder.is_dir() and not self.folder.is_symlink():
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def empty(self) -> bool:
        """Nothing would be saved by going on."""
        return len(list(self.folder.iterdir())) <= 1

    # ---- the first pass

    def found(self, number: int) -> Found | None:
        """What was found in stretch ``number``; None if it is not done."""
        content = self._read(f"found-{number:06d}.json")
        if content is None:
            return None
        path = self.folder / f"found-{number:06d}.npy"
        data = path.read_bytes() if path.is_file() else b""
        if hashlib.sha256(data).hexdigest() != content["sha256"]:
            raise self._damaged(path)
        values = np.load(io.BytesIO(data), allow_pickle=False)
        return Found(
            DetectionTable(np.array(content["counts"], np.int64), values),
            np.array(content["times"], np.int64),
            np.array(content["durations"], np.int64),
            tuple(content["blind"]),
            np.frombuffer(bytes.fromhex(content["looks"]), np.uint8).reshape(-1, LOOK),
        )

    def save_found(self, number: int, found: Found) -> None:
        """Keep what was found."""
        buffer = io.BytesIO()
        np.save(buffer, found.table.values, allow_pickle=False)
        data = buffer.getvalue()
        with atomic_file(self.folder / f"found-{number:06d}.npy", overwrite=True) as stream:
            stream.write(data)
        self._write(
            f"found-{number:06d}.json",
            {
                "sha256": hashlib.sha256(data).hexdigest(),
                "counts": found.table.counts.tolist(),
                "times": found.times.tolist(),
                "durations": found.durations.tolist(),
                "blind": list(found.blind),
                "looks": found.looks.tobytes().hex(),
            },
        )

    # ---- the second pass

    def segment_path(self, number: int) -> Path:
        """Where the packets of a segment go."""
        return self.folder / f"segment-{number:06d}.bin"

    def seal_path(self, number: int) -> Path:
        """Where the seal of a segment goes."""
        return self.folder / f"seal-{number:06d}.bin"

    def seal_digest(self, number: int) -> str:
        """SHA-256 of the seal of a finished segment, hexadecimal.

        Raises:
            VideoError: there is none.
        """
        try:
            return fingerprint(self.seal_path(number))
        except OSError as error:
            raise VideoError(
                f"the seal '{self.seal_path(number)}' of the interrupted run is missing, and "
                "without it nobody could be brought back; put it back, or start anew by --force"
            ) from error

    def agreed(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """What an earlier run of this work kept under ``name``; else ``body``, which is kept."""
        before = self._read(f"{name}.json")
        if before is None:
            self._write(f"{name}.json", body)
        return dict(body) if before is None else before

    def segment(self, number: int) -> tuple[Segment, dict[str, Any]] | None:
        """A finished segment, checked byte by byte, and what was noted of it; None if not done.

        Raises:
            VideoError: it is not what was written.
        """
        content = self._read(f"segment-{number:06d}.json")
        if content is None:
            return None
        segment = Segment(
            self.segment_path(number),
            tuple(PacketRecord(*values) for values in content["packets"]),
            content["digest"],
            content["shown"],
        )
        segment.check()
        return segment, content["notes"]

    def save_segment(self, number: int, segment: Segment, notes: Mapping[str, Any]) -> None:
        """Keep a finished segment whose file is in its place."""
        packets = [[record.pts, record.key, record.size] for record in segment.packets]
        self._write(
            f"segment-{number:06d}.json",
            {
                "packets": packets,
                "digest": segment.digest,
                "shown": segment.shown,
                "notes": notes,
            },
        )

    # ---- files

    def _make(self, identity: Mapping[str, Any]) -> None:
        try:
            self.folder.mkdir(mode=0o700)
        except OSError as error:
            raise OutputError(
                f"cannot create the work folder '{self.folder}': {error.strerror or error}; choose "
                "another output"
            ) from error
        head = {"format": _FORMAT, "version": _VERSION, "label": self.label}
        self._write("run.json", head | {"identity": identity})

    def _reopened(self, identity: Any, resume: bool) -> str:
        if not resume:
            raise OutputError(
                f"an interrupted run left its work in '{self.folder}'; go on with it by --resume, "
                "or start anew by --force"
            )
        if self.folder.is_symlink() or not self.folder.is_dir():
            raise OutputError(f"'{self.folder}' is no work folder; remove it")
        content = self._read("run.json")
        if content is None or content.get("format") != _FORMAT or content["version"] != _VERSION:
            raise VideoError(f"'{self.folder}' is no work folder of this version; start by --force")
        before = content["identity"]
        changed = sorted(
            name for name in {*before, *identity} if before.get(name) != identity.get(name)
        )
        if changed:
            raise VideoError(
                f"the interrupted run had another {', '.join(changed)}; use the same again, or "
                "start anew by --force"
            )
        return str(content["label"])

    def _read(self, name: str) -> dict[str, Any] | None:
        path = self.folder / name
        if not path.exists():
            return None
        try:
            with path.open("rb") as stream:
                data = stream.read(_MOST_BYTES + 1)
            content = parse_json(data)
            body = content["body"]
            if len(data) > _MOST_BYTES or content["sha256"] != _digest(body):
                raise ValueError("its digest is another")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._damaged(path) from error
        return dict(body)

    def _write(self, name: str, body: Mapping[str, Any]) -> None:
        content = json.dumps({"sha256": _digest(body), "body": body}, allow_nan=False)
        with atomic_file(self.folder / name, overwrite=True) as stream:
            stream.write(content.encode())

    def _damaged(self, path: Path) -> VideoError:
        return VideoError(f"the checkpoint '{path}' is damaged; start anew by --force")


def _digest(body: Any) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def draws_to_json(drawn: Mapping[str, Replacement]) -> dict[str, Any]:
    """Draws of one track, JSON-able; floats are exact."""
    return {
        keyword: asdict(held)
        | {"feature": [float(v) for v in held.feature], "epsilon": str(held.epsilon)}
        for keyword, held in drawn.items()
    }


def draws_from_json(content: Mapping[str, Any]) -> dict[str, Replacement]:
    """The inverse of :func:`draws_to_json`.

    Raises:
        PrivacyError: it is something else.
    """
    try:
        return {
            keyword: Replacement(
                np.array(held["feature"], dtype=np.float32),
                held["group"],
                float(held["epsilon"]),
                str(held["mechanism"]),
                str(held["guarantee"]),
            )
            for keyword, held in content.items()
        }
    except (KeyError, TypeError, ValueError) as error:
        raise PrivacyError(
            "the draws of the interrupted run cannot be read; start anew by --force"
        ) from error
