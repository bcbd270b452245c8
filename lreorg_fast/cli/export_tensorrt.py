"""``lreorg export tensorrt``: an engine for this machine's GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lreorg_fast.cli.options import keyword_names
from lreorg_fast.cli.terminal import print_json, print_line

EXAMPLES = """\b
Examples:
  lreorg export tensorrt demo -o encoder.engine --stage encoder --profile 1,1,8
  lreorg export tensorrt rendering.onnx -o rendering.engine --profile 1 --profile 8
  lreorg export tensorrt demo -o same.engine --bake identity=17 --keep age,expression
"""


def profiles(
    _context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]
) -> list[tuple[int, int, int]] | None:
    """ "1,1,8" is (1, 1, 8), "8" is (8, 8, 8); None where the option is not given."""
    found = []
    for text in given:
        try:
            numbers = [int(part) for part in text.split(",")]
        except ValueError:
            numbers = []
        if len(numbers) not in (1, 3):
            raise click.BadParameter(f"{text!r} is neither LEAST,BEST,MOST nor one number")
        least, best, most = numbers * 3 if len(numbers) == 1 else numbers
        found.append((least, best, most))
    return found or None


@click.command("tensorrt", short_help="Build a TensorRT engine.", epilog=EXAMPLES)
@click.argument("source", metavar="SOURCE")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, metavar="FILE",
    help="The engine, a name that ends in .engine.",
)  # fmt: skip
@click.option(
    "--profile", "profiles", multiple=True, callback=profiles, metavar="LEAST,BEST,MOST",
    help="Faces of a call, or one number; may be repeated.  [default: 1,1,8]",
)  # fmt: skip
@click.option(
    "--plugin", metavar="NAME",
    help="auto: this package's kernels where the plugin library is there; always; never.  "
    "[default: auto]",
)  # fmt: skip
@click.option("--refit", is_flag=True, default=None, help="Weights can be replaced later.")
@click.option("--workspace", type=int, metavar="BYTES", help="Of device memory.  [default: 4 GiB]")
@click.option("--optimization-level", type=int, metavar="0-5", help="[default: 3]")
@click.option(
    "--timing-cache", type=click.Path(path_type=Path), metavar="FILE",
    help="Measurements of earlier builds, read and written.",
)  # fmt: skip
@click.option(
    "--cache", type=click.Path(path_type=Path), metavar="FOLDER",
    help="Finished engines.  [default: this package's cache]",
)  # fmt: skip
@click.option("--no-cache", is_flag=True, help="Build even what was built before.")
@click.option("--device", metavar="NAME", help="Such as cuda:1.  [default: cuda]")
@click.option("--stage", metavar="NAME", help="Of a bundle: see lreorg export onnx.")
@click.option(
    "--dtype", metavar="NAME",
    help="Of a bundle: float32, float16 or bfloat16.  [default: bfloat16]",
)  # fmt: skip
@click.option("--hide", callback=keyword_names, metavar="A,B", help="Of a bundle.")
@click.option("--keep", callback=keyword_names, metavar="A,B|none", help="Of a bundle.")
@click.option(
    "--bake", multiple=True, metavar="NAME=VALUE",
    help="Of a bundle: a replacement that becomes part of the engine, see lreorg export onnx.",
)  # fmt: skip
@click.option("--force", "overwrite", is_flag=True, help="Replace an existing engine.")
@click.option("--json", "as_json", is_flag=True, help="Print what was built as JSON.")
def tensorrt(
    source: str,
    output: Path,
    bake: tuple[str, ...],
    cache: Path | None,
    no_cache: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Build an engine from SOURCE, an ONNX file of this package or a bundle.

    It runs on this kind of GPU and with this version of TensorRT only. How to run it from Python
    and C++, and what has been run so far: docs/tensorrt.md.
    """
    from lreorg_fast.export.trt import tensorrt as build

    if no_cache and cache is not None:
        raise click.UsageError("--cache and --no-cache exclude each other; give one of them")
    given = {name: value for name, value in settings.items() if value is not None}
    given["cache"] = False if no_cache else cache or True
    what: Any = source
    if not source.endswith(".onnx"):
        from lreorg_fast.export.baking import baked_features
        from lreorg_fast.weights.bundle import open_bundle

        what = open_bundle(source)
        if bake:
            given["replace"] = baked_features(what, bake)
    elif bake:
        raise click.UsageError("--bake is of a bundle; an ONNX file has its replacements already")
    built = build(what, output, **given)
    if as_json:
        print_json({"path": str(built.path), "cached": built.cached, "key": built.identity.key})
        return
    print_line(f"{built.path}{' (from the cache)' if built.cached else ''}")
