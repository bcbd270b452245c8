"""The group of verbs, and the one place where errors become sentences and exit codes."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

import click

import lreorg_fast
from lreorg_fast.cli.terminal import (
    EXIT_FAILURES,
    EXIT_INTERRUPTED,
    EXIT_SETTINGS,
    EXIT_UNEXPECTED,
    fail,
)
from lreorg_fast.errors import LReorgError, StuckError
from lreorg_fast.time_limit import left_behind

_DEBUG = "lreorg.debug"
Command = TypeVar("Command", bound=Callable[..., Any])


def _switch_debug(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        context.meta[_DEBUG] = True
        logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
        logging.getLogger("lreorg_fast").setLevel(logging.DEBUG)


# Before and after the verb, because after is where one adds it when a run has failed.
debug_option = click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_switch_debug,
    help="Show tracebacks and log what is chosen.",
)


class Verbs(click.Group):
    """A group that ends every error in one sentence on stderr and a documented exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except LReorgError as error:
            _explain(ctx, str(error))
            code = EXIT_FAILURES if isinstance(error, StuckError) else EXIT_SETTINGS
        except KeyboardInterrupt as error:
            fail(str(error) or "interrupted")
            code = EXIT_INTERRUPTED
        except (click.ClickException, click.exceptions.Exit, click.Abort, BrokenPipeError):
            raise  # usage errors and the like, which click words
        except Exception as error:
            _explain(
                ctx,
                f"unexpected {type(error).__name__}: {error}; run again with --debug for the "
                "traceback",
            )
            code = EXIT_UNEXPECTED
        raise click.exceptions.Exit(code)


def _explain(context: click.Context, message: str) -> None:
    """Called while the exception is handled."""
    if context.meta.get(_DEBUG):
        click.echo(traceback.format_exc(), err=True)
    fail(message)


EXIT_CODES = """\b
Exit codes:
  0    done; every face was replaced
  1    a face was filled, a file refused, or work on faces hung; live: a frame was blanked or a
       connection broke; verify: a face is exposed; audit: a claim did not hold; evaluate:
       protection could not be measured; doctor: something required is broken; weights verify: a
       file is damaged or missing
  2    wrong usage, settings, bundle or output
  3    unexpected error; run again with --debug
  130  interrupted
"""


@click.group(
    cls=Verbs,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(lreorg_fast.__version__, prog_name="lreorg")
@debug_option
def lreorg() -> None:
    """Anonymize faces: hide who somebody is, keep what the picture is needed for."""


def main() -> None:
    """Entry point of the command; ends the process with a documented exit code."""
    try:
        lreorg(prog_name="lreorg")
    except SystemExit as end:
        if left_behind():
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
            os._exit(end.code if isinstance(end.code, int) else EXIT_FAILURES)
        raise


def _add_verbs() -> None:
    from lreorg_fast.cli import (
        anonymize,
        audit,
        bundle,
        demo,
        doctor,
        evaluate,
        export,
        keys,
        live,
        train,
        video,
        weights,
    )

    groups: tuple[click.Group, ...] = (weights.weights, bundle.bundle, export.export)
    pictures = (demo.demo, anonymize.anonymize, video.verify, live.live)
    secrets = (keys.keygen, keys.restore, keys.pseudonyms)
    measured = (audit.audit, evaluate.evaluate)
    for verb in (*pictures, *secrets, *measured, train.train, doctor.doctor, *groups):
        lreorg.add_command(debug_option(verb))
    for group in groups:
        for verb in group.commands.values():
            debug_option(verb)


_add_verbs()
