"""``lf.export.tensorrt``: engines for one GPU, from an Anonymizer, a bundle or an ONNX file."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lreorg_fast.errors import BackendUnavailable, ConfigError
from lreorg_fast.export import trt_build, trt_plugin
from lreorg_fast.export.onnx_files import SUFFIX as ONNX_SUFFIX
from lreorg_fast.export.onnx_files import HasBundle, onnx
from lreorg_fast.export.onnx_options import STAGES, OnnxOptions
from lreorg_fast.export.trt_api import gpu, tensorrt_package
from lreorg_fast.export.trt_identity import (
    SUFFIX,
    EngineCache,
    Gpu,
    Identity,
    read_identity,
    write_engine,
)
from lreorg_fast.export.trt_options import BuildOptions, ProfileLike, as_profile
from lreorg_fast.files import check_target
from lreorg_fast.weights.bundle import Bundle
from lreorg_fast.weights.cache import cache_folder, sha256_of

DEFAULT_DTYPE = "bfloat16"
# Of lf.export.onnx, when the source is no ONNX file.
_EXPORT_OPTIONS = ("stage", "dtype", "hide", "keep", "replace", "keep_input", "batch", "opset")


@dataclasses.dataclass(frozen=True)
class Built:
    """An engine that was written.

    Attributes:
        path: the engine; what it is lies beside it in a file of the same name with ``.json``.
        identity: what it was built from and for.
        cached: it was taken from the cache instead of being built.
    """

    path: Path
    identity: Identity
    cached: bool


def tensorrt(
    source: HasBundle | Bundle | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    profiles: Sequence[ProfileLike] = BuildOptions.profiles,
    plugin: str = BuildOptions.plugin,
    refit: bool = BuildOptions.refit,
    workspace: int = BuildOptions.workspace,
    optimization_level: int = BuildOptions.optimization_level,
    timing_cache: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | bool = True,
    device: torch.device | str | None = None,
    overwrite: bool = False,
    **export: Any,
) -> Built:
    """Build an engine that runs one file of an export on this machine's GPU.

    Precision is that of the ONNX file: networks are strongly typed. docs/tensorrt.md says how to
    run the engine from Python, C++ and the command line, and what has been run so far.

    Args:
        source: an :class:`lreorg_fast.Anonymizer` or an opened bundle, which is exported first; or
            an ONNX file that :func:`lreorg_fast.export.onnx` wrote.
        path: the engine, a name that ends in ``.engine``.
        profiles: (least, best, most) faces of a call, 1 to 4096; or one number of faces; or
            several of them. An engine runs every number of faces that one of them holds.
        plugin: "auto": the reorganization runs in this package's kernels where the plugin library
            is there, else as ordinary operators, which is logged once; "always": an error where it
            is not there; "never".
        refit: weights can be replaced later, see :func:`refit`; such engines are a little slower.
        workspace: most bytes of device memory for intermediate results.
        optimization_level: 0 (fast build) to 5 (fast engine).
        timing_cache: a file with measurements of earlier builds, read and written.
        cache: a folder of finished engines, by GPU, version, file and settings; True is
            ``tensorrt`` in this package's cache, False none.
        device: "cuda", or a certain one.
        overwrite: replace an existing engine.
        export: ``stage`` (default "pipeline"), ``dtype`` (default "bfloat16"; networks that judge
            are float32), ``hide``,
            ``keep``, ``replace``, ``keep_input``, ``batch`` and ``opset`` of
            :func:`lreorg_fast.export.onnx`; only where the source is no file.

    Raises:
        ConfigError: a setting that is out of range or without effect.
        MissingExtra: TensorRT, or for an Anonymizer onnx, is not installed.
        BackendUnavailable: no GPU, a TensorRT before 10.9, no plugin although it must be used, or
            TensorRT cannot build the network.
        CheckpointError: the ONNX file or the timing cache cannot be read.
        OutputError: the target exists or cannot be written.
    """
    target = _checked_target(path, overwrite)
    options = BuildOptions(
        tuple(as_profile(profile) for profile in profiles),
        plugin,
        refit,
        workspace,
        optimization_level,
    )
    _check_export(source, export)
    trt = tensorrt_package()
    on = gpu(device)
    engines = EngineCache(_cache_folder(cache))
    timings = None if timing_cache is None else Path(timing_cache)
    if isinstance(source, str | os.PathLike):
        return _write(trt, on, Path(source), target, options, timings, engines, overwrite)
    with tempfile.TemporaryDirectory(prefix="lreorg-") as folder:
        file = Path(folder) / f"network{ONNX_SUFFIX}"
        onnx(source, file, **_export_options(export, plugin))
        return _write(trt, on, file, target, options, timings, engines, overwrite)


def refit(
    engine: str | os.PathLike[str],
    source: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    device: torch.device | str | None = None,
    overwrite: bool = False,
) -> Built:
    """Write an engine with the weights of another ONNX file, without tuning it again.

    Args:
        engine: built with ``refit=True``, for this GPU.
        source: an ONNX file of the same stage and settings, with other weights.
        path: the new engine, a name that ends in ``.engine``.

    Raises:
        as :func:`tensorrt`; also ConfigError where the engine cannot be refitted.
    """
    target = _checked_target(path, overwrite)
    trt = tensorrt_package()
    on = gpu(device)
    old, file = Path(engine), Path(source)
    identity = read_identity(old)
    identity.check(old, trt.__version__, Gpu.of(on))
    if not identity.options.refit:
        raise ConfigError(f"engine '{old}' cannot be refitted; build it with refit=True")
    library = needed_library(trt, identity, old)
    with torch.cuda.device(on):
        plan = trt_build.refitted(trt, old.read_bytes(), file, library)
    changed = dataclasses.replace(identity, onnx=sha256_of(file))
    write_engine(target, plan, changed, overwrite)
    return Built(target, changed, cached=False)


def needed_library(trt: Any, identity: Identity, engine: Path) -> Path | None:
    """The plugin library that an engine was built with, or None where it needs none.

    Raises:
        BackendUnavailable: it is not there, or another one.
    """
    if identity.plugin is None:
        return None
    library = trt_plugin.library_path(trt)
    if not library.is_file():
        raise BackendUnavailable(
            f"engine '{engine}' needs the plugin library '{library}', which is not there; build "
            f"it (docs/tensorrt.md), or name it in {trt_plugin.VARIABLE}"
        )
    if sha256_of(library) != identity.plugin:
        raise BackendUnavailable(
            f"engine '{engine}' was built with another plugin library than '{library}'; build the "
            "engine again"
        )
    return library


def _checked_target(path: str | os.PathLike[str], overwrite: bool) -> Path:
    target = Path(path)
    if target.suffix != SUFFIX:
        raise ConfigError(f"the output is '{target}', but must be a file that ends in {SUFFIX}")
    check_target(target, overwrite)
    return target


def _check_export(source: Any, export: dict[str, Any]) -> None:
    for name in export:
        if name not in _EXPORT_OPTIONS:
            raise ConfigError(
                f"there is no setting {name!r}; those of the export are "
                f"{', '.join(_EXPORT_OPTIONS)}"
            )
    given = [name for name, value in export.items() if value is not None]
    if given and isinstance(source, str | os.PathLike):
        raise ConfigError(
            f"{given[0]} has no effect on a file that is exported already; give it to "
            "lf.export.onnx, or pass an Anonymizer"
        )


def _export_options(export: dict[str, Any], plugin: str) -> dict[str, Any]:
    """For lf.export.onnx; a stage with CDFNet carries the plugin's node and its function."""
    options = {name: value for name, value in export.items() if value is not None}
    stage = STAGES.get(options.get("stage", OnnxOptions.stage))
    if stage is None or stage.judges is None:  # networks that judge are float32
        options.setdefault("dtype", DEFAULT_DTYPE)
    if plugin != "never" and stage is not None and stage.passes is not None:
        options["form"] = "plugin"
    return options


def _cache_folder(given: str | os.PathLike[str] | bool) -> Path | None:
    if given is False:
        return None
    return cache_folder() / "tensorrt" if given is True else Path(given)


def _write(
    trt: Any,
    device: torch.device,
    file: Path,
    target: Path,
    options: BuildOptions,
    timings: Path | None,
    engines: EngineCache,
    overwrite: bool,
) -> Built:
    library = trt_plugin.choose(trt, options.plugin, file)
    identity = Identity(
        tensorrt=trt.__version__,
        gpu=Gpu.of(device),
        onnx=sha256_of(file),
        plugin=None if library is None else sha256_of(library),
        options=options,
    )
    plan = engines.find(identity)
    cached = plan is not None
    if plan is None:
        with torch.cuda.device(device):
            plan = trt_build.build(trt, file, options, library, timings)
        engines.add(identity, plan)
    write_engine(target, plan, identity, overwrite)
    return Built(target, identity, cached)
