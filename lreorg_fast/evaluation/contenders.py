"""Who takes part: a method that runs here, or a folder of what any other method made."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from lreorg_fast.errors import ConfigError
from lreorg_fast.evaluation.folders import FolderCollection, FolderPictures, open_outputs
from lreorg_fast.evaluation.methods import Method
from lreorg_fast.evaluation.protocol import Collection, Indices, Labels, Pictures
from lreorg_fast.media.pictures import Picture

Progress = Callable[[int, int], None]
# Outputs of a method that runs here stay in memory, because its draws cannot be repeated.
MOST_HELD_BYTES = 2**30
_CHUNK = 32
_NO_KEY = "a folder holds no keys; recovery is measured for methods that run here"


class Contender(Protocol):
    """One line of the tables."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def guarantee(self) -> str: ...
    @property
    def command(self) -> str: ...
    @property
    def runs(self) -> bool:
        """Whether it can be run on other pictures; a folder holds what it holds."""

    @property
    def restores(self) -> bool:
        """Whether :meth:`restored` brings anything back."""

    def outputs(self, originals: Collection, progress: Progress) -> Pictures:
        """As many as originals, in their order."""

    def restored(self, originals: Collection, progress: Progress) -> Pictures:
        """Each original anonymized and brought back with its key."""


class HeldPictures:
    """Pictures in memory; see :class:`lreorg_fast.evaluation.protocol.Pictures`."""

    def __init__(self, pictures: Iterable[Picture | None]) -> None:
        self._pictures = tuple(pictures)

    def __len__(self) -> int:
        return len(self._pictures)

    def picture(self, index: int) -> Picture | None:
        """What was given."""
        return self._pictures[index]

    def fingerprint(self, index: int) -> str:
        """SHA-256 of size and pixels."""
        picture = self._pictures[index]
        if picture is None:
            return "none"
        digest = hashlib.sha256(f"{picture.shape}".encode())
        digest.update(np.ascontiguousarray(picture).tobytes())
        return digest.hexdigest()


class FolderContender:
    """Outputs in a folder, paired with the originals by name.

    Args:
        originals: see :func:`open_outputs`.
        folder: its name is the contender's.
        title: as tables call it; the folder's name if None.
        allow_missing: see :func:`open_outputs`.

    Raises:
        ConfigError: the folder is not paired with the originals.
    """

    guarantee = "not known; see the method's own page"
    runs = False
    restores = False

    def __init__(
        self,
        originals: FolderCollection,
        folder: Path,
        title: str | None = None,
        allow_missing: bool = False,
    ) -> None:
        self._originals = originals
        self._pictures = open_outputs(originals, folder, allow_missing=allow_missing)
        self.name = folder.resolve().name
        self.title = title or self.name
        self.description = f"Outputs that were made elsewhere, read from the folder '{self.name}'."
        self.command = shlex.join(["lreorg", "evaluate", str(originals.root), str(folder)])

    def outputs(self, originals: Collection, progress: Progress) -> FolderPictures:
        """See :class:`Contender`.

        Raises:
            ConfigError: other originals than those that the folder is paired with.
        """
        if originals is not self._originals:
            raise ConfigError(f"the folder '{self.name}' is paired with other originals")
        return self._pictures

    def restored(self, originals: Collection, progress: Progress) -> Pictures:
        """Never.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(_NO_KEY)


class MethodContender:
    """A method of :data:`lreorg_fast.evaluation.methods.METHODS`; every picture is a release of
    its own, as on the command line."""

    runs = True

    def __init__(self, method: Method) -> None:
        self._method = method
        self.name, self.title = method.name, method.title
        self.description, self.guarantee = method.description, method.guarantee
        self.command = method.command
        self.restores = method.restores

    def outputs(self, originals: Collection, progress: Progress) -> HeldPictures:
        """See :class:`Contender`.

        Raises:
            ConfigError: they do not fit into memory.
            ImageError: an original cannot be read.
        """
        return self._run(self._method, originals, progress)

    def restored(self, originals: Collection, progress: Progress) -> HeldPictures:
        """See :class:`Contender`; errors as :meth:`outputs`."""
        return self._run(self._method.restore, originals, progress)

    def _run(
        self,
        work: Callable[[Sequence[Picture]], Sequence[Picture | None]],
        originals: Collection,
        progress: Progress,
    ) -> HeldPictures:
        made: list[Picture | None] = []
        held = 0
        for start in range(0, len(originals), _CHUNK):
            indices = range(start, min(start + _CHUNK, len(originals)))
            pictures = [originals.picture(index) for index in indices]
            shown = [picture for picture in pictures if picture is not None]
            outputs = iter(work(shown))
            made += [None if picture is None else next(outputs) for picture in pictures]
            held += sum(picture.nbytes for picture in made[start:] if picture is not None)
            if held > MOST_HELD_BYTES:
                raise ConfigError(
                    f"the outputs of '{self.name}' need more than {MOST_HELD_BYTES >> 20} MiB of "
                    f"memory; make them with '{self.command}' and evaluate their folder, or "
                    "evaluate fewer originals"
                )
            progress(indices.stop, len(originals))
        return HeldPictures(made)


class Part:
    """Some pictures of a collection as a collection of their own.

    Args:
        whole: the collection.
        indices: which of its pictures.
    """

    def __init__(self, whole: Collection, indices: Indices) -> None:
        self._whole, self.indices = whole, indices
        self.name, self.domain = whole.name, whole.domain
        self.names: Sequence[str] = [whole.names[i] for i in indices]
        self.subjects: Indices = whole.subjects[indices]
        self.attributes: Mapping[str, Labels] = {
            name: labels[indices] for name, labels in whole.attributes.items()
        }
        self.groups: Mapping[str, Sequence[str]] = {
            name: [labels[i] for i in indices] for name, labels in whole.groups.items()
        }

    def __len__(self) -> int:
        return len(self.indices)

    def picture(self, index: int) -> Picture | None:
        """Of the whole."""
        return self._whole.picture(int(self.indices[index]))

    def fingerprint(self, index: int) -> str:
        """Of the whole."""
        return self._whole.fingerprint(int(self.indices[index]))
