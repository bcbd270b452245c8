"""``lf.export.onnx``: stages of an Anonymizer as ONNX files, and a folder that runs as a whole."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import lreorg_fast
from lreorg_fast.errors import ConfigError
from lreorg_fast.export.onnx_graph import onnx_package
from lreorg_fast.export.onnx_options import OnnxOptions
from lreorg_fast.export.onnx_stages import JUDGES, Networks, stage_model
from lreorg_fast.files import atomic_file, atomic_folder, check_folder_target, check_target
from lreorg_fast.weights.bundle import Bundle

SUFFIX = ".onnx"
MANIFEST = "export.json"
_WHAT = "an export"
_LIMITS = "verify."  # in a bundle's calibration: what the checks of the pipeline compare with


class HasBundle(Protocol):
    """What an export needs of an Anonymizer."""

    bundle: Bundle


def onnx(
    anonymizer: HasBundle | Bundle,
    path: str | os.PathLike[str],
    *,
    stage: str = OnnxOptions.stage,
    dtype: str = OnnxOptions.dtype,
    form: str = OnnxOptions.form,
    opset: int | None = None,
    batch: int | None = None,
    hide: Iterable[str] | None = None,
    keep: Iterable[str] | None = None,
    replace: Mapping[str, Any] | None = None,
    keep_input: bool = False,
    overwrite: bool = False,
) -> tuple[Path, ...]:
    """Write a stage as one file, or as a folder of files that a host runs one after the other.

    docs/export.md has the files' inputs and outputs and how to run them.

    Args:
        anonymizer: an :class:`lreorg_fast.Anonymizer`, or an opened bundle.
        path: with the suffix ``.onnx`` one file; without it a folder, with ``export.json`` that
            describes its files. For stage ``pipeline`` the folder has the parts between which
            replacements are drawn.
        stage: ``encoder``, ``cdfnet``, ``generator``, ``pipeline``; or one of the pipeline's
            parts: ``analysis`` (picture to latent and key feature), ``key`` (key feature of the
            last of several hidden keywords), ``rendering`` (latent and replacements to picture),
            ``recognizer`` and ``detector`` (what verifies a picture).
        dtype: of maps and matrices: ``float32``, ``float16`` or ``bfloat16``. Inputs, outputs,
            latents, streams, styles and the sum of the picture are float32 in every file.
        form: ``standard`` (ordinary operators), or ``plugin``: the reorganization is one node
            with a local function.
        opset: 18 to 24, bfloat16 from 22; None is 20, or 22 for bfloat16.
        batch: number of faces of a call; None leaves it open.
        hide: keywords to anonymize, in order; identity if None.
        keep: keywords to recover, in order; gender, age, expression and makeup if None.
        replace: replacement features (dim,) by hidden keyword that become part of the file: every
            face then gets this one. Keywords that are not named are inputs.
        keep_input: which keywords are kept is an input, as many as ``keep`` has.
        overwrite: replace an existing file, or folder of an earlier export.

    Returns:
        The files that were written.

    Raises:
        ConfigError: a setting out of range, without effect, or that does not fit the bundle.
        OutputError: the target exists or cannot be written.
        MissingExtra: onnx is not installed.
    """
    onnx_package()
    options = OnnxOptions(
        stage, dtype, form, opset, batch, hide, keep, dict(replace or {}), keep_input
    )
    networks = Networks(anonymizer if isinstance(anonymizer, Bundle) else anonymizer.bundle)
    target = Path(path)
    if target.suffix == SUFFIX:
        check_target(target, overwrite)
        _write(stage_model(networks, options), target, overwrite)
        return (target,)
    return _write_folder(networks, options, target, overwrite)


def _write_folder(
    networks: Networks, options: OnnxOptions, target: Path, overwrite: bool
) -> tuple[Path, ...]:
    """Whole or not at all; a folder that is no export is never replaced."""
    if target.suffix:
        raise ConfigError(
            f"the output is '{target}', but must be a file that ends in {SUFFIX}, or a folder "
            "without a suffix"
        )
    check_folder_target(Path(os.path.abspath(target)), overwrite, MANIFEST, _WHAT)
    entries = []
    with atomic_folder(target, overwrite, MANIFEST, _WHAT) as folder:
        for name, part in _parts(networks, options):
            file = folder / f"{name}{SUFFIX}"
            model = stage_model(networks, part)
            _write(model, file, overwrite=False)
            entries.append(_entry(model, file, part))
        manifest = networks.bundle.manifest
        described = {
            "format": "lreorg-export",
            "version": 1,
            "lreorg_fast": lreorg_fast.__version__,
            "bundle": {"name": manifest.name, "license": manifest.license},
            "limits": {
                name: value
                for name, value in manifest.calibration.items()
                if name.startswith(_LIMITS)
            },
            "files": entries,
        }
        with atomic_file(folder / MANIFEST) as stream:
            stream.write(json.dumps(described, indent=1, allow_nan=False).encode() + b"\n")
    return (*(target / entry["file"] for entry in entries), target / MANIFEST)


def _parts(networks: Networks, options: OnnxOptions) -> Iterator[tuple[str, OnnxOptions]]:
    """Names and options of a folder's files, in the order in which a host runs them."""
    if options.stage != "pipeline":
        yield options.stage, options
        return
    selection = options.resolve(networks.keywords, networks.dim)
    drawn = [name for name in selection.hide if name not in selection.baked]
    without = dataclasses.replace(options, keep=None, keep_input=False, replace={})
    alone = dataclasses.replace(without, stage="generator", form="standard", hide=None)
    first = selection.hide[0]
    if not drawn:
        yield "pipeline", options
    if first in drawn:
        yield "analysis", dataclasses.replace(without, stage="analysis", hide=(first,))
    else:
        yield "encoder", dataclasses.replace(alone, stage="encoder")
    yield "generator", alone
    for i, name in enumerate(selection.hide[1:], start=1):
        if name in drawn:
            before = selection.hide[: i + 1]
            baked = {k: v for k, v in selection.baked.items() if k in before}
            part = dataclasses.replace(without, stage="key", hide=before, replace=baked)
            yield f"key_{name}", part
    if drawn:
        yield "rendering", dataclasses.replace(options, stage="rendering")
    for kind, role in JUDGES.items():
        if role in networks.bundle.manifest.parts:
            yield kind, dataclasses.replace(alone, stage=kind, dtype="float32")


def _write(model: Any, target: Path, overwrite: bool) -> None:
    content = model.SerializeToString(deterministic=True)
    with atomic_file(target, overwrite) as stream:
        stream.write(content)


def _entry(model: Any, file: Path, options: OnnxOptions) -> dict[str, Any]:
    """What a host must know of a file."""
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while chunk := stream.read(2**20):
            digest.update(chunk)
    facts = {entry.key: entry.value for entry in model.metadata_props}
    lists = ("hide", "keep", "baked", "keep_choices")
    return {
        "file": file.name,
        "sha256": digest.hexdigest(),
        "bytes": file.stat().st_size,
        "stage": options.stage,
        "dtype": options.dtype,
        "form": options.form,
        "opset": options.opset,
        **{name: json.loads(facts[name]) for name in lists if name in facts},
        "inputs": [_value(info) for info in model.graph.input],
        "outputs": [_value(info) for info in model.graph.output],
    }


def _value(info: Any) -> dict[str, Any]:
    helper = onnx_package().helper
    kind = info.type.tensor_type
    return {
        "name": info.name,
        "type": str(helper.tensor_dtype_to_np_dtype(kind.elem_type)),
        "shape": [d.dim_param or d.dim_value for d in kind.shape.dim],
        "about": info.doc_string,
    }
