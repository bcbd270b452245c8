"""Options of ``lreorg anonymize`` about people, their budget, and who may bring them back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lreorg_fast.cli.terminal import say
from lreorg_fast.errors import ConfigError

if TYPE_CHECKING:
    from lreorg_fast.privacy import Ledger, Subjects
    from lreorg_fast.sealing import Sealer

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--budget",
        type=float,
        help="Most epsilon that one person may cost; a face that would cost more is filled.  "
        "[default: no limit]",
    ),
    click.option(
        "--ledger",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Count in this file, over all runs that use it; --budget starts a new one and is kept "
        "in it.",
    ),
    click.option(
        "--person",
        metavar="NAME",
        help="All INPUTS show this one person, who keeps one draw; several faces in a picture, or "
        "at one time in a video, are refused. The name is written nowhere but into --pseudonyms.",
    ),
    click.option(
        "--person-per-folder",
        is_flag=True,
        help="The folder that a picture or video lies in names its person.",
    ),
    click.option(
        "--people",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="CSV that says who is where: columns file, person, and x and y of a point on the face "
        "in pixels, for videos also seconds. Faces without a line are persons of their own; a line "
        "without a face is an error.",
    ),
    click.option(
        "--pseudonyms",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Give each named person the same new face in all runs, from a secret key in this "
        "file; see lreorg pseudonyms. Outputs are then linkable, pseudonymised and not "
        "anonymous.",
    ),
    click.option(
        "--context",
        metavar="TEXT",
        help="What the pseudonyms are for; those of two contexts cannot be linked.  "
        "[default: default]",
    ),
    click.option(
        "--seal",
        type=click.Path(path_type=Path),
        metavar="PUBLIC_KEY",
        help="Write a seal beside each result, from which the holder of the "
        "private key can bring the person back; see lreorg keygen. Results are then not "
        "anonymous.  [default: no seal]",
    ),
    click.option(
        "--seal-kind",
        metavar="NAME",
        help="What a seal brings back: feature, an approximate face, or crop, the exact pixels.  "
        "[default: feature]",
    ),
)


def release_options(command: Command) -> Command:
    """Add the options above; the command gets them as ``release``, see :class:`Release`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass(frozen=True)
class Release:
    """The values of the options, before anything is opened."""

    budget: float | None = None
    ledger: Path | None = None
    person: str | None = None
    person_per_folder: bool = False
    people: Path | None = None
    pseudonyms: Path | None = None
    context: str | None = None
    seal: Path | None = None
    seal_kind: str | None = None

    @classmethod
    def taken_from(cls, options: dict[str, Any]) -> Release:
        """Take them out of all options of the command."""
        return cls(**{name: options.pop(name) for name in cls.__dataclass_fields__})

    def open_ledger(self) -> Ledger:
        """The file's, or one of this run only."""
        from lreorg_fast.privacy import Ledger, LedgerFile

        if self.ledger is None:
            return Ledger(self.budget)
        opened = LedgerFile(self.ledger, self.budget)
        if opened.created:
            say(f"a new ledger is started: {self.ledger}")
        return opened

    def open_subjects(self, ledger: Ledger) -> Subjects:
        """Who is on the pictures.

        Raises:
            ConfigError: options that contradict each other or have no effect.
        """
        from lreorg_fast.privacy import PeopleFile, Pseudonyms, Subjects
        from lreorg_fast.privacy.pseudonyms import DEFAULT_CONTEXT

        ways = {
            "--person": self.person is not None,
            "--person-per-folder": self.person_per_folder,
            "--people": self.people is not None,
        }
        used = [name for name, named in ways.items() if named]
        if len(used) > 1:
            raise ConfigError(f"{' and '.join(used)} contradict each other; leave one")
        if self.context is not None and self.pseudonyms is None:
            raise ConfigError("--context has no effect without --pseudonyms; leave it out")
        keys = None if self.pseudonyms is None else Pseudonyms(self.pseudonyms)
        table = None if self.people is None else PeopleFile(self.people)
        return Subjects(ledger, self._person(), keys, self.context or DEFAULT_CONTEXT, table)

    def _person(self) -> Callable[[Path], str] | None:
        if self.person_per_folder:
            return lambda path: path.resolve().parent.name or "/"
        name = self.person
        if name == "":
            raise ConfigError("--person is empty; give a name")
        return None if name is None else lambda _path: name

    @property
    def mechanism(self) -> str | None:
        """Of the draw, where none is named: a pseudonym does not look at the face."""
        return None if self.pseudonyms is None else "uniform"

    def open_sealer(self) -> Sealer | None:
        """None without ``--seal``.

        Raises:
            ConfigError: ``--seal-kind`` alone, or an unknown one.
            SealError, MissingExtra: of the public key.
        """
        if self.seal is None:
            if self.seal_kind is not None:
                raise ConfigError("--seal-kind has no effect without --seal; leave it out")
            return None
        from lreorg_fast.privacy import PublicKey
        from lreorg_fast.sealing import DEFAULT_KIND, Sealer

        return Sealer(PublicKey.load(self.seal), self.seal_kind or DEFAULT_KIND)
