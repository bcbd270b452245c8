"""``lreorg keygen``, ``lreorg restore`` and ``lreorg pseudonyms``: secrets and their files."""

from __future__ import annotations

from pathlib import Path

import click

from lreorg_fast.cli.terminal import print_json, print_line, print_table, say
from lreorg_fast.cli.video import Stages
from lreorg_fast.errors import OutputError


@click.command(short_help="Make a key pair for sealed originals.")
@click.argument("name", type=click.Path(path_type=Path))
@click.option(
    "--no-passphrase",
    is_flag=True,
    help="Store the private key as it is: whoever gets the file can bring people back.",
)
def keygen(name: Path, no_passphrase: bool) -> None:
    """Make NAME.pub, which seals, and NAME.key, which opens.

    Give NAME.pub to the computer that anonymizes, and keep NAME.key somewhere else. Without it, or
    without its passphrase, nobody can open a seal, and there is no way around that. Existing files
    are never replaced.
    """
    from lreorg_fast.files import check_target
    from lreorg_fast.privacy.keys import PrivateKey

    public, private = (name.with_name(name.name + suffix) for suffix in (".pub", ".key"))
    for path in (public, private):
        check_target(path, overwrite=False)
    key = PrivateKey.generate()
    passphrase = None
    if not no_passphrase:
        passphrase = click.prompt(
            "passphrase of the private key", hide_input=True, confirmation_prompt=True, err=True
        )
    key.save(private, passphrase)
    key.public.save(public)
    print_line(f"public key, for lreorg anonymize --seal: {public}")
    print_line(f"private key, for lreorg restore --key: {private}")


@click.command(short_help="Bring faces back from their seal, with the private key.")
@click.argument("output", type=click.Path(path_type=Path))
@click.option(
    "--key",
    "key_file",
    type=click.Path(path_type=Path),
    required=True,
    metavar="PRIVATE_KEY",
    help="NAME.key of the pair that the output was sealed for.",
)
@click.option(
    "--seal",
    "seal_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The seal.  [default: OUTPUT.seal]",
)
@click.option(
    "-o",
    "--to",
    "target",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where the result goes.  [default: OUTPUT with _restored added, a picture as PNG]",
)
@click.option(
    "--bundle",
    default="demo",
    show_default=True,
    metavar="FOLDER|demo",
    help="The bundle that made the output; for the kind feature.",
)
@click.option("--force", is_flag=True, help="Replace an earlier restored file.")
@click.option("-q", "--quiet", is_flag=True, help="Print neither progress nor result.")
def restore(
    output: Path,
    key_file: Path,
    seal_file: Path | None,
    target: Path | None,
    bundle: str,
    force: bool,
    quiet: bool,
) -> None:
    """Bring the faces of OUTPUT back, a picture or video that lreorg anonymize --seal wrote.

    The kind crop gives the original pixels (a video is encoded again); the kind feature gives
    approximate faces. Faces without a seal stay as they are. A wrong key, a seal of another output
    and an output that was edited are errors, never a face.
    """
    from lreorg_fast.files import check_target
    from lreorg_fast.media import write_image
    from lreorg_fast.media.video import container_of
    from lreorg_fast.pipeline import Anonymizer
    from lreorg_fast.privacy.keys import PrivateKey, needs_passphrase
    from lreorg_fast.privacy.sealed import KINDS
    from lreorg_fast.sealing import restore_file
    from lreorg_fast.video.restoring import restore_video, restored_target

    video = output.is_file() and container_of(output) is not None
    path = target or (
        restored_target(output) if video else output.with_name(f"{output.stem}_restored.png")
    )
    check_target(path, force)
    if path.resolve() == output.resolve():
        raise OutputError(f"'{path}' is the output itself; name another file")
    passphrase = None
    if needs_passphrase(key_file):
        passphrase = click.prompt("passphrase of the private key", hide_input=True, err=True)
    key = PrivateKey.load(key_file, passphrase)

    def network() -> Anonymizer:
        return Anonymizer.load(bundle)

    if video:
        with Stages(visible=not quiet) as stages:
            kind = restore_video(
                *(output, key, network, path),
                seal_file=seal_file,
                overwrite=force,
                progress=stages,
            )
    else:
        picture, kind = restore_file(output, key, network, seal_file)
        write_image(path, picture, force)
    if not quiet:
        print_line(f"{KINDS[kind]}: {path}")


@click.command(short_help="Make, list or shorten a file of people's pseudonym keys.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--create", is_flag=True, help="Make the file; it must not exist.")
@click.option("--delete", metavar="NAME", help="Forget the key of one person, for ever.")
@click.option("--json", "as_json", is_flag=True, help="Print the list for a program.")
def pseudonyms(file: Path, create: bool, delete: str | None, as_json: bool) -> None:
    """List the people in FILE, of lreorg anonymize --pseudonyms, and how reports name them.

    Whoever has FILE can link all outputs of a person. Deleting a key cuts that for good, as far as
    no copy of FILE is left.
    """
    from lreorg_fast.privacy import Pseudonyms

    keys = Pseudonyms(file, create)
    if delete is not None:
        keys.delete(delete)
        say("the key is deleted; delete it in copies of the file as well")
    if as_json:
        print_json(keys.people)
    else:
        print_table(("person", "track in reports"), keys.people.items())
