"""Stages of the pipeline as ONNX models: encoder, CDFNet and generator joined as asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import lreorg_fast
from lreorg_fast.cdfnet import CDFNet, Plan, plan
from lreorg_fast.cdfnet.backends.program import constants, number
from lreorg_fast.cdfnet.coupling import stacked
from lreorg_fast.cdfnet.folding import FoldedCDFNet, fold
from lreorg_fast.cdfnet.schedule import key_feature
from lreorg_fast.errors import BundleError
from lreorg_fast.export.onnx_cdfnet import FORMS, Call, Network, exact
from lreorg_fast.export.onnx_encoder import EncoderNodes
from lreorg_fast.export.onnx_generator import GeneratorNodes
from lreorg_fast.export.onnx_graph import DEFAULT_OPSET, Graph
from lreorg_fast.export.onnx_judges import JudgeNodes
from lreorg_fast.export.onnx_options import STAGES, OnnxOptions, Selection, Stage
from lreorg_fast.models import E4EEncoder, StyleGAN2Generator
from lreorg_fast.verification import DETECTOR, RECOGNIZER
from lreorg_fast.weights.bundle import Bundle
from lreorg_fast.weights.parts import load_part

PICTURES = "RGB, [-1, 1], (N, 3, height, width); aligned faces"
RENDERED = "RGB, about [-1, 1]; check that it is finite, then clip"
LATENTS = "W+ latents, (N, rows, dim)"
JUDGES = {"recognizer": RECOGNIZER, "detector": DETECTOR}


class Networks:
    """The networks of a bundle, each loaded when it is first asked for."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.keywords = {keyword.name: keyword for keyword in bundle.manifest.keywords}

    @cached_property
    def encoder(self) -> E4EEncoder:
        return cast(E4EEncoder, load_part(self.bundle, "encoder"))

    @cached_property
    def generator(self) -> StyleGAN2Generator:
        return cast(StyleGAN2Generator, load_part(self.bundle, "generator"))

    @cached_property
    def folded(self) -> FoldedCDFNet:
        return fold(cast(CDFNet, load_part(self.bundle, "cdfnet")))

    @cached_property
    def tables(self) -> dict[str, Tensor]:
        return self.bundle.tensors("tables")

    @property
    def dim(self) -> int:
        return self.folded.config.dim

    def judge(self, role: str) -> Any:
        """A network that verifies."""
        return load_part(self.bundle, role)

    @property
    def resolution(self) -> int:
        """Of the generator's pictures, without loading it."""
        return int(self.bundle.part("generator").config["resolution"])

    @cached_property
    def rows(self) -> int:
        """Of a latent, without loading a network."""
        return int(self.bundle.part("encoder").config["num_ws"])

    @cached_property
    def network(self) -> Network:
        """The folded CDFNet; its own constants are empty, every graph has those that it needs."""
        return Network(self.folded.config.clamp, stacked(self.folded, torch.empty(0)))

    def constants(self, names: Sequence[str]) -> Any:
        """c(k) of keywords, (K, n, 3, D) float32."""
        missing = [name for name in names if f"keyword.{name}" not in self.tables]
        if missing:
            raise BundleError(
                f"the bundle's tables lack 'keyword.{missing[0]}'; rebuild the bundle"
            )
        return constants(self.folded.keywords, {n: self.tables[f"keyword.{n}"] for n in names})


def stage_model(networks: Networks, options: OnnxOptions) -> Any:
    """The checked model of one file.

    Raises:
        ConfigError: options that do not fit the bundle, or a model too large for a file.
        BundleError: the bundle lacks something.
        MissingExtra: onnx is not installed.
    """
    stage = STAGES[options.stage]
    graph = Graph(options.chosen_opset, options.batch)
    facts = {"stage": options.stage, "dtype": options.dtype}
    if stage.judges is not None:
        _judge(graph, networks, stage.judges)
    else:
        facts |= _faces(graph, networks, options, stage)
    manifest = networks.bundle.manifest
    about = {
        "lreorg_fast": lreorg_fast.__version__,
        "bundle": manifest.name,
        "license": manifest.license,
        "domain": manifest.domain.description,
    }
    return graph.model(f"lreorg_{options.stage}", about | facts)


def _faces(graph: Graph, networks: Networks, options: OnnxOptions, stage: Stage) -> dict[str, str]:
    """Encoder, passes and generator, as far as the stage has them; gives facts for the file."""
    facts: dict[str, str] = {}
    shape = _latents(graph, networks)
    if stage.encodes:
        size = networks.encoder.config.input_size
        picture = graph.input("picture", (graph.batch, 3, size, size), doc=PICTURES)
        latent = EncoderNodes(graph, networks.encoder, options.dtype).latents(picture)
        if not stage.renders:
            graph.output("latent", latent, shape, doc=LATENTS)
    else:
        latent = graph.input("latent", shape, doc=LATENTS)
    if stage.passes is not None:
        selection = options.resolve(networks.keywords, networks.dim)
        facts = _facts(options, selection)
        latent = _Reorganization(graph, networks, options, selection).add(latent)
    if stage.renders:
        made = GeneratorNodes(graph, networks.generator, options.dtype).picture(latent)
        graph.output("rendered", made, _pictures(graph, networks), doc=RENDERED)
    return facts


def _judge(graph: Graph, networks: Networks, kind: str) -> None:
    """A network that verifies; pictures are of the generator's size, as the pipeline's are."""
    network = networks.judge(JUDGES[kind])
    size = networks.resolution
    picture = graph.input("picture", _pictures(graph, networks), doc=PICTURES)
    nodes = JudgeNodes(graph)
    if kind == "detector":
        doc = "logit: does the picture show a face of the bundle's kind"
        graph.output("face", nodes.face(network, picture), (graph.batch,), doc=doc)
        return
    features = nodes.identity(network, picture, size)
    doc = "unit features; the cosine of two tells whether they show one person"
    graph.output("identity", features, (graph.batch, network.config.outputs), doc=doc)


def plan_model(network: Network, table: NDArray[np.float32], of: Plan, dtype: str) -> Any:
    """The model of any plan: inputs value_i and outputs result_i, (rows, 1, D) float32.

    Args:
        network: whose passes.
        table: c(k) of the plan's keywords in their order, (K, n, 3, D).
        of: the plan.
        dtype: how matrices are stored; products are float32 with each.
    """
    graph = Graph(DEFAULT_OPSET)
    shape = (graph.batch, 1, network.dim)
    inputs = [graph.input(f"value_{i}", shape) for i in range(len(of.inputs))]
    program = number(of, {name: i for i, name in enumerate(of.keywords)})
    call = Call(network, program, inputs, graph.constant(table, "constants"), dtype)
    for i, value in enumerate(exact(graph, call)):
        graph.output(f"result_{i}", value, shape)
    return graph.model("lreorg_plan", {})


def _pictures(graph: Graph, networks: Networks) -> tuple[int | str, ...]:
    return (graph.batch, 3, networks.resolution, networks.resolution)


def _latents(graph: Graph, networks: Networks) -> tuple[int | str, ...]:
    return (graph.batch, networks.rows, networks.dim)


def _facts(options: OnnxOptions, selection: Selection) -> dict[str, str]:
    lists = {
        "hide": selection.hide,
        "keep": selection.keep,
        "baked": tuple(selection.baked),
        "keep_choices": selection.choices,
    }
    return {"form": options.form} | {name: json.dumps(value) for name, value in lists.items()}


class _Reorganization:
    """The passes of a stage, their inputs and, where they are results, their outputs."""

    def __init__(
        self, graph: Graph, networks: Networks, options: OnnxOptions, selection: Selection
    ) -> None:
        self._graph = graph
        self._networks = networks
        self._options = options
        self._selection = selection

    def add(self, latent: str) -> str:
        """The reorganized latent; its own outputs are added to the graph."""
        graph, selection = self._graph, self._selection
        slots = [
            f"keep {i}" if selection.choices else name for i, name in enumerate(selection.keep)
        ]
        key = self._options.passes == "key"
        made = key_feature(selection.hide) if key else plan(selection.hide, slots)
        hidden = selection.hide[:-1] if key else selection.hide
        inputs = [latent, *(self._replacement(name, latent) for name in hidden)]
        stage = STAGES[self._options.stage]
        outputs = self._call(made, inputs)
        shape = _latents(graph, self._networks)
        if key:
            self._key(selection.hide[-1], outputs[0])
        elif not stage.renders:
            graph.output("reorganized", outputs[0], shape, doc=LATENTS)
        return outputs[0]

    def _key(self, name: str, value: str) -> None:
        doc = f"key feature of {name}, from which its replacement is drawn"
        self._graph.output(f"key_{name}", value, _latents(self._graph, self._networks), doc=doc)

    def _call(self, made: Plan, inputs: Sequence[str]) -> list[str]:
        rows = {name: i for i, name in enumerate((*made.hide, *made.keep))}
        call = Call(
            self._networks.network,
            number(made, rows),
            inputs,
            self._constants(),
            self._options.dtype,
        )
        emit: Callable[[Graph, Call], list[str]] = FORMS[self._options.form]
        return emit(self._graph, call)

    def _constants(self) -> str:
        """Rows of the hidden keywords, then of the kept ones, which may be chosen by an input."""
        graph, selection = self._graph, self._selection
        if not selection.choices:
            names = (*selection.hide, *selection.keep)
            return graph.constant(self._networks.constants(names), "constants")
        hidden = graph.constant(self._networks.constants(selection.hide), "constants/hidden")
        others = graph.constant(self._networks.constants(selection.choices), "constants/choices")
        doc = f"which to keep, in order; numbers of {', '.join(selection.choices)}"
        chosen = graph.input("keep", (len(selection.keep),), np.int64, doc=doc)
        return graph.add("Concat", hidden, graph.add("Gather", others, chosen, axis=0), axis=0)

    def _replacement(self, name: str, latent: str) -> str:
        """(N, T, D), the same for all rows of a face."""
        graph, networks = self._graph, self._networks
        baked = self._selection.baked.get(name)
        if baked is not None:
            everybody = graph.constant(baked, f"replacement/{name}")
            return graph.add("Expand", everybody, graph.add("Shape", latent))
        doc = f"replaces the key feature of {name}; as drawn for each face"
        given = graph.input(f"replace_{name}", (graph.batch, networks.dim), doc=doc)
        return graph.add(
            "Tile",
            graph.add("Unsqueeze", given, graph.numbers(1)),
            graph.numbers(1, networks.rows, 1),
        )
