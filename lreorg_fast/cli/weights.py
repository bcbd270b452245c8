"""``lreorg weights``: published weights files, from the network or from where the user has them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lreorg_fast.cli.terminal import (
    EXIT_FAILURES,
    fail,
    print_json,
    print_line,
    print_table,
    progress_bar,
    say,
)

if TYPE_CHECKING:
    from lreorg_fast.weights.registry import PublishedFile

EXAMPLES = """\b
Examples:
  lreorg weights list
  lreorg weights fetch fid-inception --accept-licence
  lreorg weights add ~/Downloads/e4e_ffhq_encode.pt
  lreorg weights convert e4e_ffhq_encode.pt -o encoder.safetensors
  lreorg weights verify
"""

quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print no progress.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print it for a program.")


@click.group(short_help="List, fetch, add, verify and convert published weights.", epilog=EXAMPLES)
def weights() -> None:
    """Published weights: generators, encoders, identity networks, CLIP and others.

    Files lie in a cache folder (LREORG_CACHE names another one). Every file is read without
    executing anything in it. What each one is, and what its licence forbids: docs/weights.md.
    """


@weights.command("list", short_help="Show what is known and what is here.")
@json_option
def list_files(as_json: bool) -> None:
    """Show every published file that this version reads, its licence, its size and its state."""
    from lreorg_fast.weights.cache import state_of
    from lreorg_fast.weights.registry import published_files

    files = published_files().values()
    if as_json:
        print_json([_description(entry) for entry in files])
        return
    print_table(
        ("name", "for", "commercial use", "licence", "size", "state"),
        (
            (
                entry.name,
                entry.purpose,
                entry.licence.commercial,
                entry.licence.name,
                _size(entry.bytes),
                state_of(entry),
            )
            for entry in files
        ),
    )


@weights.command(short_help="Download files into the cache.")
@click.argument("names", nargs=-1, required=True)
@click.option(
    "--accept-licence",
    is_flag=True,
    help="You have read the licences of these files; needed where they set limits.",
)
@click.option(
    "--offline",
    is_flag=True,
    help="Open no connection; say what is missing. So does LREORG_OFFLINE=1.",
)
@quiet_option
def fetch(names: tuple[str, ...], accept_licence: bool, offline: bool, quiet: bool) -> None:
    """Bring the files called NAMES into the cache and print where they are.

    A broken download is taken up again where it ended. Size and SHA-256 are checked where they are
    known; where nobody published a digest it is recorded now and compared from then on.
    """
    from lreorg_fast import weights as library
    from lreorg_fast.weights.cache import cached_file, expected_sha256
    from lreorg_fast.weights.fetching import is_offline
    from lreorg_fast.weights.registry import published_file

    entries = [published_file(name) for name in names]  # a typing error costs no download
    offline = offline or is_offline()
    for entry in entries:
        here = cached_file(entry) is not None
        accepted = accept_licence
        if not here and not offline and entry.mirrors:
            accepted = _show_licence(entry, accept_licence)
        with progress_bar(entry.name, visible=not quiet, of_bytes=True) as progress:
            path = library.fetch(entry, accept_licence=accepted, offline=offline, progress=progress)
        if not here:
            _tell_first_use(entry, expected_sha256(entry))
        print_line(str(path))


@weights.command(short_help="Take a file that you have into the cache.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--as",
    "name",
    metavar="NAME",
    help="Which published file it is; without it the digest tells, where one is known.",
)
@quiet_option
def add(file: Path, name: str | None, quiet: bool) -> None:
    """Copy FILE into the cache, if it is what it should be, and print where it is."""
    from lreorg_fast import weights as library
    from lreorg_fast.weights.cache import expected_sha256

    with progress_bar("checking", visible=not quiet, of_bytes=True) as progress:
        entry, path = library.add(file, name, progress)
    _tell_licence(entry)
    _tell_first_use(entry, expected_sha256(entry))
    print_line(str(path))


@weights.command(short_help="Hash files in the cache again.")
@click.argument("names", nargs=-1)
@json_option
@quiet_option
def verify(names: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Compare the files called NAMES, or all that are here, with their digests.

    Ends with 1 if a file is damaged, or if one that was named is missing.
    """
    from lreorg_fast.weights.cache import place, verify
    from lreorg_fast.weights.registry import published_file, published_files

    chosen = [published_file(name) for name in names] or [
        entry for entry in published_files().values() if place(entry).is_file()
    ]
    found = []
    for entry in chosen:
        with progress_bar(entry.name, visible=not quiet, of_bytes=True) as progress:
            found.append(verify(entry.name, progress))
    if as_json:
        print_json([vars(one) for one in found])
    elif found:
        print_table(("name", "state", "detail"), ((v.name, v.state, v.detail) for v in found))
    else:
        print_line("the cache is empty")
    bad = [one for one in found if one.state != "ok"]
    for one in bad:
        fail(f"{one.name} is {one.state}: {one.detail}")
    if bad:
        raise click.exceptions.Exit(EXIT_FAILURES)


@weights.command(short_help="Turn a file into one safetensors file, once.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="The safetensors file to write.",
)
@click.option(
    "--part",
    metavar="NAME",
    help="Which network, where the file holds several: generator, encoder or identity.",
)
@click.option("--force", is_flag=True, help="Replace an existing file.")
@json_option
def convert(file: Path, output: Path, part: str | None, force: bool, as_json: bool) -> None:
    """Read one network of FILE, write it as OUTPUT, and print what it is.

    The result loads faster, holds no pickle, and leaves out what only training needed.
    """
    from lreorg_fast.weights.convert import convert

    done = convert(file, output, part, overwrite=force)
    if as_json:
        print_json({**vars(done), "path": str(done.path)})
        return
    print_table(
        ("", ""),
        (
            ("read", done.source_kind),
            ("architecture", done.architecture),
            *((f"  {name}", value) for name, value in done.config.items()),
            ("written to", done.path),
            ("size", _size(done.bytes)),
        ),
    )


@weights.command(short_help="Print where a file is.")
@click.argument("name")
def path(name: str) -> None:
    """Print the path of the file called NAME; an error if it is not here. Opens no connection."""
    from lreorg_fast import weights as library

    print_line(str(library.fetch(name, offline=True)))


def _show_licence(entry: PublishedFile, accepted: bool) -> bool:
    """Tell the licence before anything is downloaded; ask for it where somebody can answer."""
    _tell_licence(entry)
    if accepted or not entry.licence.must_be_accepted or not sys.stdin.isatty():
        return accepted
    return click.confirm("Do you accept this?", default=False, err=True)


def _tell_licence(entry: PublishedFile) -> None:
    say(f"{entry.name}: {entry.title}")
    say(f"  licence: {entry.licence.name}; commercial use: {entry.licence.commercial}")
    say(f"  limits: {entry.licence.limits}")
    say(f"  cite: {entry.paper}; {entry.repository}")


def _tell_first_use(entry: PublishedFile, sha256: str | None) -> None:
    if entry.sha256 is None:
        say(
            f"  nobody published a digest of {entry.name}: SHA-256 {sha256} is recorded and "
            "trusted from now on; compare it with another copy if you can"
        )


def _description(entry: PublishedFile) -> dict[str, Any]:
    from dataclasses import asdict

    from lreorg_fast.weights.cache import cached_file, state_of

    state = state_of(entry)
    here = str(cached_file(entry)) if state == "here" else None
    return {**asdict(entry), "state": state, "path": here}


def _size(size: int | None) -> str:
    return "not known" if size is None else f"{size / 2**20:.0f} MiB"
