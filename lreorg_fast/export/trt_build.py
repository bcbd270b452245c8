"""From an ONNX file to an engine, with TensorRT's builder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lreorg_fast.errors import BackendUnavailable, CheckpointError, ConfigError
from lreorg_fast.export import trt_plugin
from lreorg_fast.export.trt_api import Messages, made, parser_errors
from lreorg_fast.export.trt_options import BuildOptions
from lreorg_fast.files import atomic_file


def build(
    trt: Any, onnx: Path, options: BuildOptions, library: Path | None, timing_cache: Path | None
) -> bytes:
    """Parse, tune and serialize on the current CUDA device.

    Args:
        library: the plugin library for the file's node; None: the node runs as ordinary operators.
        timing_cache: measurements of earlier builds, read if the file exists and written back.

    Raises:
        CheckpointError: TensorRT cannot read the file.
        ConfigError: a profile does not fit the network's inputs.
        BackendUnavailable: the build fails.
    """
    messages = Messages(trt)
    builder = made("a builder", lambda: trt.Builder(messages.logger), messages)
    if library is not None:
        trt_plugin.load(library, builder.get_plugin_registry())
    # 11 has strongly typed networks only and ignores the flag.
    flag = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = made("a network", lambda: builder.create_network(flag), messages)
    parser = made("an ONNX parser", lambda: trt.OnnxParser(network, messages.logger), messages)
    if not parser.parse_from_file(str(onnx)):
        raise CheckpointError(
            f"TensorRT {trt.__version__} cannot read '{onnx}': {parser_errors(parser)}; export it "
            "with another opset or form, or update TensorRT"
        )
    _check_plugin(trt, network, onnx, library)
    config = made("a configuration", builder.create_builder_config, messages)
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    config.builder_optimization_level = options.optimization_level
    if options.refit:
        config.set_flag(trt.BuilderFlag.REFIT)
    _add_profiles(builder, config, network, options)
    cache = _timing_cache(config, timing_cache)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BackendUnavailable(
            f"TensorRT cannot build an engine from '{onnx}'{messages.reason()}; try a larger "
            "workspace, smaller profiles, or plugin='never'"
        )
    if timing_cache is not None:
        with atomic_file(timing_cache, overwrite=True) as stream:
            stream.write(memoryview(cache.serialize()))
    return bytes(memoryview(plan))


def _check_plugin(trt: Any, network: Any, onnx: Path, library: Path | None) -> None:
    """That the plugin is in the network if and only if it was chosen."""
    layers = (network.get_layer(i) for i in range(network.num_layers))
    found = any(layer.type == trt.LayerType.PLUGIN_V3 for layer in layers)
    if found and library is None:
        raise ConfigError(
            f"TensorRT found a plugin for '{onnx}' by itself although none was chosen; do not load "
            "plugin libraries into this process, or leave plugin at 'auto'"
        )
    if not found and library is not None:
        raise BackendUnavailable(
            f"TensorRT {trt.__version__} does not use the plugin of '{library}' for '{onnx}'; "
            "update TensorRT, or say plugin='never'"
        )


def _open_inputs(network: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Inputs with an open number of faces: name and shape, -1 first.

    Raises:
        ConfigError: another dimension is open.
    """
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = tuple(tensor.shape)
        if -1 in shape[1:]:
            raise ConfigError(
                f"input '{tensor.name}' has shape {shape}; only the first dimension, the number "
                "of faces, may be open: export the network with this package"
            )
        if shape[:1] == (-1,):
            yield tensor.name, shape


def _add_profiles(builder: Any, config: Any, network: Any, options: BuildOptions) -> None:
    inputs = list(_open_inputs(network))
    if not inputs and len(options.profiles) > 1:
        raise ConfigError(
            f"there are {len(options.profiles)} profiles, but the file has a fixed number of "
            "faces; export it with batch=None, or give one profile"
        )
    for profile in options.profiles if inputs else ():
        of_engine = builder.create_optimization_profile()
        for name, shape in inputs:
            least, best, most = (
                (faces, *shape[1:]) for faces in (profile.least, profile.best, profile.most)
            )
            of_engine.set_shape(name, least, best, most)
        if config.add_optimization_profile(of_engine) < 0:
            raise ConfigError(
                f"TensorRT refuses the profile {profile}; give (least, best, most) faces that the "
                "network can run"
            )


def _timing_cache(config: Any, path: Path | None) -> Any:
    """The cache that the build uses, or None."""
    if path is None:
        return None
    found = path.read_bytes() if path.is_file() else b""
    cache = config.create_timing_cache(found)
    # False: measurements of another GPU or version are refused, not used.
    if cache is None or not config.set_timing_cache(cache, False):
        raise CheckpointError(
            f"timing cache '{path}' is damaged or of another GPU or version; name another file"
        )
    return cache


def refitted(trt: Any, plan: bytes, onnx: Path, library: Path | None) -> bytes:
    """The engine with the weights of another ONNX file of the same network.

    Raises:
        ConfigError: it was built without ``refit``.
        CheckpointError: the file does not fit, or lacks weights.
    """
    messages = Messages(trt)
    runtime = made("a runtime", lambda: trt.Runtime(messages.logger), messages)
    if library is not None:
        trt_plugin.load(library, runtime.get_plugin_registry())
    engine = made("an engine", lambda: runtime.deserialize_cuda_engine(plan), messages)
    if not engine.refittable:
        raise ConfigError("the engine cannot be refitted; build it with refit=True")
    refitter = made("a refitter", lambda: trt.Refitter(engine, messages.logger), messages)
    parser = made("a parser", lambda: trt.OnnxParserRefitter(refitter, messages.logger), messages)
    if not parser.refit_from_file(str(onnx)):
        raise CheckpointError(
            f"'{onnx}' does not fit the engine: {parser_errors(parser)}; give a file that was "
            "exported with the same settings"
        )
    absent = refitter.get_missing_weights()
    if absent or not refitter.refit_cuda_engine():
        raise CheckpointError(
            f"'{onnx}' lacks weights of the engine ({', '.join(absent[:3]) or 'refused'})"
            f"{messages.reason()}; give a file that was exported with the same settings"
        )
    return bytes(memoryview(engine.serialize()))
