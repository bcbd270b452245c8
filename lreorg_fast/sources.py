"""The files that a bundle is built from: loaded, and remembered by digest and licence."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from lreorg_fast.assembly import Networks
from lreorg_fast.errors import ConfigError
from lreorg_fast.training.tables import Progress, silent
from lreorg_fast.weights.bundle import Bundle


@dataclass(frozen=True)
class Sources:
    """Weights files by what they are for; the names of the files do not matter.

    Args:
        generator: taken by :func:`lreorg_fast.weights.generators.load_generator`.
        encoder: by :func:`lreorg_fast.weights.encoders.load_encoder`; may be the generator's file.
        cdfnet: by :func:`lreorg_fast.weights.cdfnet.load_cdfnet`.
        clip: by :func:`lreorg_fast.weights.clip.load_clip` with ``clip_model``.
        clip_model: name of an open_clip model, or the path of its JSON config.
        identity: by :func:`lreorg_fast.weights.identity.load_identity`; verifies results.
        evaluation: as ``identity``; another one, for figures.
    """

    generator: Path
    encoder: Path
    cdfnet: Path
    clip: Path
    clip_model: str
    identity: Path
    evaluation: Path | None = None

    def files(self) -> dict[str, Path]:
        """Role -> file, without those not given."""
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {name: path for name, path in values.items() if isinstance(path, Path)}

    def load(self, progress: Progress = silent) -> Networks:
        """All networks, float32, on the CPU.

        Raises:
            ConfigError: a file is missing.
            CheckpointError: it is not of the kind that is needed there; the message says what it
                is and what takes it.
        """
        from lreorg_fast.weights.cdfnet import load_cdfnet
        from lreorg_fast.weights.clip import load_clip
        from lreorg_fast.weights.encoders import load_encoder
        from lreorg_fast.weights.generators import load_generator
        from lreorg_fast.weights.identity import load_identity

        files = self.files()
        for role, path in files.items():
            if not path.is_file():
                raise ConfigError(f"the {role} file '{path}' does not exist; give a weights file")
        loaders = {
            "cdfnet": load_cdfnet,
            "clip": lambda path: load_clip(self.clip_model, path),
            "generator": load_generator,
            "identity": load_identity,
            "evaluation": load_identity,
            "encoder": load_encoder,
        }
        loaded: dict[str, Any] = {}
        for role in (role for role in loaders if role in files):
            progress(f"loading {role}", 0, 1)
            loaded[role] = loaders[role](files[role])
            progress(f"loading {role}", 1, 1)
        return Networks(**loaded)

    def provenance(self, progress: Progress = silent) -> dict[str, dict[str, Any]]:
        """For the manifest: role -> file name, size, SHA-256, and what the registry knows of it.

        ``published_as`` and ``license`` are None where no published file has that digest.
        """
        from lreorg_fast.weights.cache import sha256_of
        from lreorg_fast.weights.registry import published_files

        known = {entry.sha256: entry for entry in published_files().values() if entry.sha256}
        described = {}
        for role, path in self.files().items():
            digest = sha256_of(path, partial(progress, f"hashing {role}"))
            entry = known.get(digest)
            described[role] = {
                "file": path.name,
                "bytes": os.stat(path).st_size,
                "sha256": digest,
                "published_as": None if entry is None else entry.name,
                "license": None if entry is None else entry.licence.name,
            }
        described["clip"]["model"] = Path(self.clip_model).name
        return described


def common_license(provenance: dict[str, dict[str, Any]]) -> str:
    """One sentence for a bundle whose maker names no licence: that of each source."""
    parts = ", ".join(
        f"{role}: {source['license'] or 'not known'}" for role, source in provenance.items()
    )
    return f"Each network keeps the licence of its source ({parts})"


def name_and_file(clip: str) -> tuple[str, Path]:
    """``NAME:FILE`` of a CLIP model.

    Raises:
        ConfigError: not of that form.
    """
    name, colon, file = clip.partition(":")
    if not colon or not name or not file:
        raise ConfigError(f"--clip is '{clip}', but must be NAME:FILE, the model and its weights")
    return name, Path(file)


def clip_of(bundle: Bundle, given: str | None) -> Any:
    """The CLIP model ``NAME:FILE``, or the one that the bundle itself holds.

    Raises:
        ConfigError: neither.
    """
    from lreorg_fast.weights.clip import load_clip

    if given is not None:
        return load_clip(*name_and_file(given))
    if "clip" not in bundle.manifest.parts:
        raise ConfigError(
            f"the bundle '{bundle.root}' does not hold its CLIP model; give it with --clip "
            "NAME:FILE"
        )
    bundle.verify()
    return load_clip(bundle.root, bundle.root / bundle.part("clip").file)
