"""``lreorg export``: a bundle's networks for other runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lreorg_fast.cli.export_tensorrt import tensorrt
from lreorg_fast.cli.options import keyword_names
from lreorg_fast.cli.terminal import print_json, print_line


@click.group()
def export() -> None:
    """Write a bundle's networks for other runtimes."""


EXAMPLES = """\b
Examples:
  lreorg export onnx demo -o exported
  lreorg export onnx demo -o exported --form plugin --dtype float16
  lreorg export onnx demo -o same --bake identity=17 --keep age,expression
  lreorg export onnx demo -o encoder --stage encoder --batch 8
"""


@export.command(short_help="Write ONNX files.", epilog=EXAMPLES)
@click.argument("bundle", metavar="BUNDLE")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, metavar="FOLDER",
    help="Where the files go; a name that ends in .onnx: one file.",
)  # fmt: skip
@click.option(
    "--stage", metavar="NAME",
    help="encoder, cdfnet, generator, pipeline; or one of its parts: analysis, key, rendering, "
    "recognizer, detector.  [default: pipeline]",
)  # fmt: skip
@click.option(
    "--dtype", metavar="NAME",
    help="Of maps and matrices: float32, float16 or bfloat16.  [default: float32]",
)  # fmt: skip
@click.option(
    "--form", metavar="NAME",
    help="standard: ordinary operators; plugin: the reorganization is one node with a local "
    "function.  [default: standard]",
)  # fmt: skip
@click.option("--opset", type=int, help="18 to 24, bfloat16 from 22.  [default: 20, or 22]")
@click.option("--batch", type=int, help="Faces of every call.  [default: any number]")
@click.option(
    "--hide", callback=keyword_names, metavar="A,B",
    help="Keywords to anonymize, in order.  [default: identity]",
)  # fmt: skip
@click.option(
    "--keep", callback=keyword_names, metavar="A,B|none",
    help="Keywords to recover, in order.  [default: gender,age,expression,makeup without those "
    "that are hidden]",
)  # fmt: skip
@click.option(
    "--bake", multiple=True, metavar="NAME=VALUE",
    help="A replacement that becomes part of the file, the same for everybody: identity=GROUP, "
    "KEYWORD=CONTENT or KEYWORD=neutral.",
)  # fmt: skip
@click.option("--keep-input", is_flag=True, help="Which keywords are kept becomes an input.")
@click.option("--force", is_flag=True, help="Replace an earlier export.")
@click.option("--json", "as_json", is_flag=True, help="Print the list of files as JSON.")
def onnx(
    bundle: str, output: Path, bake: tuple[str, ...], force: bool, as_json: bool, **settings: Any
) -> None:
    """Write BUNDLE's networks as ONNX files, for onnxruntime or TensorRT.

    The pipeline is written in parts, between which the host draws the replacements: the files
    alone give no guarantee. How to run them, and what must be checked: docs/export.md.
    """
    from lreorg_fast.export.baking import baked_features
    from lreorg_fast.export.onnx_files import onnx as write
    from lreorg_fast.weights.bundle import open_bundle

    opened = open_bundle(bundle)
    given = {name: value for name, value in settings.items() if value is not None}
    files = write(opened, output, replace=baked_features(opened, bake), overwrite=force, **given)
    if as_json:
        print_json([str(file) for file in files])
        return
    for file in files:
        print_line(str(file))


export.add_command(tensorrt)
