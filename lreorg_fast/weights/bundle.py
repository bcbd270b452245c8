"""Bundles: a folder of weights and tables that makes one Anonymizer (docs/bundle.md).

Opening one reads `bundle.json` only. Each file is checked against its size and SHA-256 in the
same pass that reads it, so nothing can be exchanged in between. Nothing of a bundle is executed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.resources
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lreorg_fast.errors import BundleError, CheckpointError
from lreorg_fast.files import atomic_file, atomic_folder, check_folder_target, parse_json
from lreorg_fast.weights.manifest import (
    MANIFEST_NAME,
    BundleFile,
    BundleManifest,
    Part,
    check_file_name,
    manifest_from_json,
    manifest_to_json,
)
from lreorg_fast.weights.tensors import (
    Expected,
    open_weights,
    read_tensors,
    write_tensors,
)

if TYPE_CHECKING:
    from torch import Tensor

DEMO = "demo"
_WHAT = "a bundle"
_MAX_MANIFEST_BYTES = 4 * 2**20
_CHUNK = 2**20


@dataclass(frozen=True)
class Bundle:
    """An opened bundle.

    Attributes:
        root: its folder.
        manifest: its validated manifest.
    """

    root: Path
    manifest: BundleManifest

    def part(self, role: str) -> Part:
        """The part with this role.

        Raises:
            BundleError: there is none; the message lists those that exist.
        """
        try:
            return self.manifest.parts[role]
        except KeyError:
            raise BundleError(
                f"the bundle '{self.root}' has no part '{role}'; it has "
                f"{', '.join(self.manifest.parts) or 'none'}"
            ) from None

    def calibrated(self, name: str) -> float:
        """A number of the manifest's calibration, such as a threshold.

        Raises:
            BundleError: there is none of this name.
        """
        if name not in self.manifest.calibration:
            raise BundleError(f"the bundle's calibration lacks '{name}'; rebuild the bundle")
        return float(self.manifest.calibration[name])

    def tensors(self, role: str, expected: Expected | None = None) -> dict[str, Tensor]:
        """Read the tensors of a part, CPU, checking size and SHA-256 on the way.

        Args:
            role: see :class:`BundleManifest`.
            expected: name -> (shape, dtype or None); see :func:`read_tensors`.

        Raises:
            BundleError: no such part; the file is missing, changed, damaged or not as expected.
        """
        name = self.part(role).file
        listed = self._check_size(name)
        try:
            return read_tensors(self.root / name, expected, listed.bytes, listed.sha256)
        except CheckpointError as error:
            raise BundleError(str(error)) from error

    def read(self, name: str) -> bytes:
        """The content of any listed file (tables that are not tensors), checked.

        Raises:
            BundleError: not listed, missing, changed or damaged.
        """
        listed = self._check_size(name)
        with _translated(), open_weights(self.root / name) as stream:
            content = stream.read(listed.bytes + 1)
        self._check_digest(name, hashlib.sha256(content).hexdigest())
        return content

    def verify(self) -> None:
        """Check size and SHA-256 of every listed file.

        Raises:
            BundleError: naming the first file that is missing, changed or damaged.
        """
        for name in self.manifest.files:
            self._check_size(name)
            digest = hashlib.sha256()
            with _translated(), open_weights(self.root / name) as stream:
                while chunk := stream.read(_CHUNK):
                    digest.update(chunk)
            self._check_digest(name, digest.hexdigest())

    def _check_size(self, name: str) -> BundleFile:
        listed = self.manifest.files.get(name)
        if listed is None:
            raise BundleError(f"the bundle '{self.root}' does not list the file '{name}'")
        with _translated(), open_weights(self.root / name) as stream:
            size = os.fstat(stream.fileno()).st_size
        if size != listed.bytes:
            raise BundleError(
                f"'{self.root / name}' has {size} bytes and not {listed.bytes}; it was changed or "
                "damaged, fetch the bundle again"
            )
        return listed

    def _check_digest(self, name: str, digest: str) -> None:
        if digest != self.manifest.files[name].sha256:
            raise BundleError(
                f"'{self.root / name}' was changed or damaged: its SHA-256 is {digest}; fetch the "
                "bundle again"
            )


def open_bundle(path_or_name: str | os.PathLike[str]) -> Bundle:
    """Open a bundle folder, or the packaged one by the name ``demo``.

    Only the manifest is read here.

    Raises:
        BundleError: no bundle there, or a manifest that is damaged, hostile or of another version.
    """
    root = _packaged_demo() if path_or_name == DEMO else Path(path_or_name)
    source = root / MANIFEST_NAME
    with _translated(f"'{root}' is not a bundle: "), open_weights(source) as stream:
        content = stream.read(_MAX_MANIFEST_BYTES + 1)
    if len(content) > _MAX_MANIFEST_BYTES:
        raise BundleError(f"'{source}' has more than {_MAX_MANIFEST_BYTES} bytes; shorten it")
    try:
        manifest = manifest_from_json(parse_json(content))
        manifest.check_references()
    except ValueError as error:  # BundleError is one
        raise BundleError(f"'{source}' is not usable: {error}") from error
    return Bundle(root, manifest)


def write_bundle(
    folder: str | os.PathLike[str],
    manifest: BundleManifest,
    files: Mapping[str, Mapping[str, Tensor] | bytes],
    overwrite: bool = False,
) -> Bundle:
    """Write a bundle folder that appears whole or not at all.

    Args:
        folder: target; the folder around it must exist.
        manifest: its ``files`` are replaced by the sizes and digests of what is written.
        files: name -> tensors (written as safetensors) or raw bytes.
        overwrite: replace an existing bundle; a folder that is no bundle is never replaced.

    Returns:
        The bundle, opened.

    Raises:
        BundleError: the manifest and the files do not fit together.
        OutputError: the folder exists, is not a bundle, or cannot be written.
    """
    target = Path(os.path.abspath(folder))
    for name in files:
        check_file_name(name)
    with atomic_folder(target, overwrite, MANIFEST_NAME, _WHAT) as temporary:
        for name, content in files.items():
            _write_file(temporary / name, content)
        listed = {name: _describe(temporary / name) for name in files}
        complete = dataclasses.replace(manifest, files=listed)
        complete.check_references()
        text = json.dumps(manifest_to_json(complete), indent=2, allow_nan=False, ensure_ascii=False)
        _write_file(temporary / MANIFEST_NAME, text.encode() + b"\n")
    return open_bundle(target)


@contextlib.contextmanager
def _translated(prefix: str = "") -> Iterator[None]:
    try:
        yield
    except CheckpointError as error:
        raise BundleError(f"{prefix}{error}") from error


def _packaged_demo() -> Path:
    root = Path(str(importlib.resources.files("lreorg_fast") / "data" / DEMO))
    if not (root / MANIFEST_NAME).is_file():
        raise BundleError(
            "the demo bundle is not part of this installation; install the wheel of lreorg_fast, "
            "or make the bundle with: python -m lreorg_fast.avatars.train"
        )
    return root


def check_bundle_folder(target: Path, overwrite: bool) -> None:
    """Refuse a folder that :func:`write_bundle` would refuse; worth asking before a long work.

    Raises:
        OutputError: see :func:`write_bundle`.
    """
    check_folder_target(target, overwrite, MANIFEST_NAME, _WHAT)


def _write_file(path: Path, content: Mapping[str, Tensor] | bytes) -> None:
    if not isinstance(content, bytes):
        write_tensors(path, content)
        return
    with atomic_file(path) as stream:
        stream.write(content)


def _describe(path: Path) -> BundleFile:
    digest, size = hashlib.sha256(), 0
    with open(path, "rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return BundleFile(digest.hexdigest(), size)
