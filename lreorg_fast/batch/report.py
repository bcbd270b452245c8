"""What became of every file of a run, for people and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import lreorg_fast
from lreorg_fast.privacy import json_epsilon

FileStatus = Literal["replaced", "covered", "filled", "no face found", "refused", "skipped"]
FILE_STATUSES: tuple[FileStatus, ...] = get_args(FileStatus)


@dataclass(frozen=True)
class FileEntry:
    """What became of one input.

    Attributes:
        source: the input, as it was found.
        status: ``replaced`` (new faces, verified), ``covered`` (filled or pixelated, as asked
            for), ``filled`` (a face is a solid colour because it could not be replaced), ``no
            face found``, ``refused`` (asked for and not done; nothing was written) or ``skipped``
            (not a picture beside pictures, named twice, or not reached before an interruption).
        reason: why it is not ``replaced`` or ``covered``; None otherwise.
        target: the file that was written; None if there is none.
        track: the name under which the ledger counts this picture, if it is one aligned face;
            None otherwise, or if nothing was drawn.
        epsilon: the most that the draws of one face of it cost, infinity where there is no
            guarantee.
        privacy: ``none`` where any draw has no guarantee, else what epsilon is about; None if
            nothing was drawn by the networks.
        similarity: cosine of the bundle's recognizer between original and result, if it is one
            aligned face; None if filled before there was a result.
        mechanism, guarantee: by hidden keyword, see :class:`lreorg_fast.result.FaceResult`.
        faces: of a whole picture, every one: :meth:`lreorg_fast.scene.SceneFace.to_dict`.
        video: of a video, what became of everybody: :class:`lreorg_fast.video.VideoReport`
            without what the report of the run says once for all; None of a picture.
        seal: the file from which the holder of the private key can bring the face back.
        earlier: done by an earlier run whose report was resumed.
        source_sha256, target_sha256: of the two files; None where nothing was written.
    """

    source: str
    status: FileStatus
    reason: str | None = None
    target: str | None = None
    track: str | None = None
    epsilon: float = 0.0
    privacy: str | None = None
    similarity: float | None = None
    mechanism: Mapping[str, str] = field(default_factory=dict)
    guarantee: Mapping[str, str] = field(default_factory=dict)
    faces: tuple[Mapping[str, Any], ...] = ()
    video: Mapping[str, Any] | None = None
    seal: str | None = None
    earlier: bool = False
    source_sha256: str | None = None
    target_sha256: str | None = None

    @property
    def failure(self) -> bool:
        """Something was asked for and is not as it was asked for."""
        unwritten = self.status == "no face found" and self.target is None
        return self.status in ("filled", "refused") or unwritten

    @property
    def face_statuses(self) -> tuple[str, ...]:
        """``replaced`` or ``filled`` of each face that was to be replaced, and of each person of
        a video, who is filled if they were in any frame in which they were seen."""
        if self.video is not None:
            if self.status == "covered":
                return ()
            filled = [track["seen_filled"] for track in self.video["tracks"]]
            return tuple("filled" if frames else "replaced" for frames in filled)
        if not self.faces:
            return (self.status,) if self.status in ("replaced", "filled") else ()
        if self.status == "covered":  # as asked for, which says nothing of the face
            return ()
        return tuple(str(face["status"]) for face in self.faces)

    @property
    def sentence(self) -> str:
        """Status, file and reason for a person; most reasons name the file themselves."""
        reason = self.reason or self.target or ""
        return f"{self.status}: {reason if self.source in reason else f'{self.source}: {reason}'}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        similarity = None if self.similarity is None else round(self.similarity, 4)
        return asdict(self) | {
            "epsilon": json_epsilon(self.epsilon),
            "similarity": similarity,
            "faces": [dict(face) for face in self.faces],
        }


@dataclass(frozen=True)
class BatchReport:
    """What was asked, what ran, and what became of every input.

    Attributes:
        settings: as given; ``hide`` and ``keep`` as they were used.
        bundle: name, domain, versions and licence of the bundle.
        engine: backend, type of its weights, precision of the networks, and device that ran. Both
            are empty for methods without networks.
        files: one entry per input, pictures in the order of the plan, then what was left out.
        ledger: :meth:`lreorg_fast.privacy.Ledger.report`, with the sentence that goes with epsilon.
        persons: how people were counted.
        sealed: what seals mean for the outputs; None without seals.
        interrupted: stopped by the user; what was not reached is ``skipped``.
    """

    settings: Mapping[str, Any]
    bundle: Mapping[str, Any]
    engine: Mapping[str, Any]
    files: tuple[FileEntry, ...]
    ledger: Mapping[str, Any]
    persons: str
    sealed: str | None = None
    interrupted: bool = False

    @property
    def counts(self) -> dict[str, int]:
        """Number of inputs by status; every status is there."""
        found = Counter(entry.status for entry in self.files)
        return {status: found[status] for status in FILE_STATUSES}

    @property
    def failures(self) -> tuple[FileEntry, ...]:
        """Files that were filled or refused, or in which no face was found."""
        return tuple(entry for entry in self.files if entry.failure)

    @property
    def filled_share(self) -> float | None:
        """Filled among the faces that were to be replaced: it belongs next to epsilon, because a
        fill depends on the face (docs/privacy.md); None if there was none."""
        statuses = [status for entry in self.files for status in entry.face_statuses]
        return statuses.count("filled") / len(statuses) if statuses else None

    @property
    def complete(self) -> bool:
        """Everything that was asked for is done: a program may exit with 0."""
        return not self.interrupted and not self.failures

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: what is written to the report file."""
        return {
            "package_version": lreorg_fast.__version__,
            "bundle": dict(self.bundle),
            "engine": dict(self.engine),
            "settings": dict(self.settings),
            "complete": self.complete,
            "interrupted": self.interrupted,
            "counts": self.counts,
            "filled_share": self.filled_share,
            "files": [entry.to_dict() for entry in self.files],
            "persons": self.persons,
            "sealed": self.sealed,
            "ledger": dict(self.ledger),
        }
