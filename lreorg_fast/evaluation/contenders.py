"""Who takes part: a method that runs here, or a folder of what any other method made."""

from __future__ import annotations

import hashlib
import itertools
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lreorg_fast.errors import ConfigError
from lreorg_fast.evaluation.folders import FolderCollection, FolderPictures, open_outputs
from lreorg_fast.evaluation.methods import Method
from lreorg_fast.evaluation.protocol import Collection, Indices, Labels, Pictures
from lreorg_fast.media.pictures import Picture
from lreorg_fast.settings import IDENTITY

if TYPE_CHECKING:
    from lreorg_fast.pipeline import Anonymizer

Progress = Callable[[int, int], None]
MakeMethod = Callable[[], "tuple[Method, Anonymizer | None]"]
# Outputs of a method that runs here stay in memory, because its draws cannot be repeated.
MOST_HELD_BYTES = 2**30
# To bring a face back costs as much as to hide it; 300 give an interval of 6 points to each side.
MOST_RESTORED = 300
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

    @property
    def hides_identity_alone(self) -> bool:
        """Whether it is compared with the others in the attacks on identity."""

    @property
    def hidden_attributes(self) -> tuple[str, ...]:
        """Keywords beside the identity that it hides, where that is known."""

    @property
    def is_default(self) -> bool:
        """Whether it is this package's default setting, whose draws are audited too."""

    @property
    def anonymizer(self) -> Anonymizer | None:
        """The networks that make its outputs of aligned faces, if an attacker has them too."""

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
    hides_identity_alone = True
    hidden_attributes: tuple[str, ...] = ()
    is_default = False
    anonymizer = None

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
    its own, as on the command line.

    Args:
        make: makes the method and names its networks, where they see aligned faces (see
            :class:`Contender`); called again in every process that the contender is sent to.
        most_restored: pictures that are brought back with their keys; the rest is not asked for.
    """

    runs = True

    def __init__(self, make: MakeMethod, most_restored: int = MOST_RESTORED) -> None:
        self._make, self._most_restored = make, most_restored
        self._method, self.anonymizer = make()
        method = self._method
        self.hides_identity_alone = method.info.family == "methods"
        self.hidden_attributes = tuple(n for n in method.info.hidden if n != IDENTITY)
        self.is_default = method.info.kind == "network" and not method.info.settings
        self.name, self.title = method.name, method.title
        self.description, self.guarantee = method.description, method.guarantee
        self.command = method.command
        self.restores = method.restores

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._make, self._most_restored)

    def outputs(self, originals: Collection, progress: Progress) -> HeldPictures:
        """See :class:`Contender`.

        Raises:
            ConfigError: they do not fit into memory.
            ImageError: an original cannot be read.
        """
        return self._run(self._method, originals, progress)

    def restored(self, originals: Collection, progress: Progress) -> HeldPictures:
        """See :class:`Contender`; errors as :meth:`outputs`."""
        count = min(self._most_restored, len(originals))
        made = self._run(self._method.restore, Part(originals, np.arange(count)), progress)
        rest = itertools.repeat(None, len(originals) - count)
        return HeldPictures(itertools.chain((made.picture(i) for i in range(count)), rest))

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


class SomePictures:
    """Some of other pictures.

    Args:
        whole: the pictures.
        indices: which of them.
    """

    def __init__(self, whole: Pictures, indices: Indices) -> None:
        self._whole, self.indices = whole, indices

    def __len__(self) -> int:
        return len(self.indices)

    def picture(self, index: int) -> Picture | None:
        """Of the whole."""
        return self._whole.picture(int(self.indices[index]))

    def fingerprint(self, index: int) -> str:
        """Of the whole."""
        return self._whole.fingerprint(int(self.indices[index]))


class Part(SomePictures):
    """Some pictures of a collection as a collection of their own.

    Args:
        whole: the collection.
        indices: which of its pictures.
    """

    def __init__(self, whole: Collection, indices: Indices) -> None:
        super().__init__(whole, indices)
        self.name, self.domain = whole.name, whole.domain
        self.names: Sequence[str] = [whole.names[i] for i in indices]
        self.subjects: Indices = whole.subjects[indices]
        self.attributes: Mapping[str, Labels] = {
            name: labels[indices] for name, labels in whole.attributes.items()
        }
        self.groups: Mapping[str, Sequence[str]] = {
            name: [labels[i] for i in indices] for name, labels in whole.groups.items()
        }
