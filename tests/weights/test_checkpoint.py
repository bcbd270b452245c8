"""Files of weights are read as data: what torch and NVlabs wrote comes back."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import types
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import published
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from lreorg_fast.errors import CheckpointError
from lreorg_fast.weights import write_tensors
from lreorg_fast.weights.checkpoint import (
    Checkpoint,
    Inert,
    PersistentObject,
    TensorRef,
    open_checkpoint,
    read_all,
    tensor_refs,
)

DATA = Path(__file__).parents[1] / "data" / "published"
_BASE = torch.arange(24.0).reshape(4, 6)
# One tensor for each way that a tensor can lie in its storage.
TENSORS: dict[str, Tensor] = {
    "plain": _BASE,
    "tied": _BASE,
    "view": _BASE[1:3, ::2],
    "transposed": _BASE.t(),
    "last row": _BASE[3],
    "expanded": torch.ones(1).expand(4, 4),
    "empty": torch.zeros(0, 3),
    "scalar": torch.tensor(3.0),
    "parameter": nn.Parameter(torch.randn(2, 2)),
    **{
        str(dtype): torch.arange(7).to(dtype)
        for dtype in (
            *(torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32),
            *(torch.int16, torch.int8, torch.uint8, torch.bool),
        )
    },
}
PLAIN = {"step": 3, "loss": 0.5, "names": ["a", ("b", None)], "flag": True, 4: b"raw", "set": {1}}


def save(path: Path, content: Any, legacy: bool) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


@pytest.mark.parametrize(("legacy", "kind"), [(False, "torch zip"), (True, "torch legacy")])
def test_what_torch_saved_comes_back(tmp_path: Path, legacy: bool, kind: str) -> None:
    options = argparse.Namespace(size=256, path="x")
    content = OrderedDict(weights=TENSORS, options=options, best=np.float64(0.25), p=PLAIN)
    with open_checkpoint(save(tmp_path / "any.name", content, legacy)) as checkpoint:
        assert checkpoint.kind == kind
        read = read_all(tensor_refs(checkpoint.content["weights"]))
        assert checkpoint.content["p"] == PLAIN
        assert checkpoint.content["best"] == 0.25
        held = checkpoint.content["options"]
        assert isinstance(held, Inert)
        assert (held.class_name, held.attributes) == ("argparse.Namespace", vars(options))
    for name, tensor in TENSORS.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor.detach()), name
        assert read[name].is_contiguous()
        assert read[name].untyped_storage().nbytes() == tensor.numel() * tensor.element_size()


def test_a_state_dict_keeps_its_order_and_metadata_are_no_obstacle(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    state = net.state_dict()
    with open_checkpoint(save(tmp_path / "a.pt", state, False)) as checkpoint:
        assert list(checkpoint.content) == list(state)
        assert [ref.shape for ref in checkpoint.content.values()] == [
            v.shape for v in state.values()
        ]


def test_safetensors_are_read_lazily_too(tmp_path: Path) -> None:
    tensors = {name: t.detach() for name, t in TENSORS.items()}
    write_tensors(tmp_path / "x.bin", tensors, {"made": "here"})
    with open_checkpoint(tmp_path / "x.bin") as checkpoint:
        assert (checkpoint.kind, checkpoint.metadata) == ("safetensors", {"made": "here"})
        for name, tensor in tensors.items():
            assert torch.equal(checkpoint.content[name].read(), tensor), name


def test_a_torchscript_archive_is_its_state_dict(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    torch.jit.script(net).save(str(tmp_path / "net.pt"))
    with open_checkpoint(tmp_path / "net.pt") as checkpoint:
        assert checkpoint.kind == "TorchScript"
        read = read_all(tensor_refs(checkpoint.content))
    assert {name: value.tolist() for name, value in read.items()} == {
        name: value.tolist() for name, value in net.state_dict().items()
    }


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pt", {"wanted": torch.ones(3), "other": torch.ones(1000)}, False)
    content = bytearray(path.read_bytes())
    place = content.find(torch.ones(500).numpy().tobytes())
    content[place : place + 4] = b"\xff" * 4  # damage in what nobody reads
    path.write_bytes(content)
    with open_checkpoint(path) as checkpoint:
        assert torch.equal(checkpoint.content["wanted"].read(), torch.ones(3))
        assert not torch.equal(checkpoint.content["other"].read(), torch.ones(1000))


class ModelCheckpoint:
    """Stands for Lightning's class of this name, under whose module it is pickled."""


def test_lightning_files_of_before_1_5_load(tmp_path: Path, monkeypatch: Any) -> None:
    """They keep the state of a callback under its class; AdaFace was trained with 1.4.4."""
    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    monkeypatch.setattr(ModelCheckpoint, "__module__", module.__name__)
    monkeypatch.setattr(module, "ModelCheckpoint", ModelCheckpoint, raising=False)
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks", module.__name__):
        monkeypatch.setitem(sys.modules, name, module)
    content = {"callbacks": {ModelCheckpoint: {"best": 1.0}}, "state_dict": {"w": torch.ones(2)}}
    with open_checkpoint(save(tmp_path / "a.ckpt", content, False)) as checkpoint:
        assert checkpoint.content["callbacks"] == {
            "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint": {"best": 1.0}
        }
        assert torch.equal(checkpoint.content["state_dict"]["w"].read(), torch.ones(2))


def _state(network: PersistentObject, prefix: str = "") -> dict[str, TensorRef]:
    found: dict[str, TensorRef] = {}
    for group in ("_parameters", "_buffers"):
        for name, value in network.state[group].items():
            if isinstance(value, TensorRef):
                found[prefix + name] = value
    for name, module in network.state["_modules"].items():
        found |= _state(module, f"{prefix}{name}.")
    return found


def test_an_nvlabs_pickle_is_read_without_its_source() -> None:
    """The fixture's ``module_src`` is a line that raises; its G is half of its G_ema."""
    keys = json.loads((DATA / "nvpkl_ada_keys.json").read_text())
    with open_checkpoint(DATA / "nvpkl_ada.pkl") as checkpoint:
        assert checkpoint.kind == "NVlabs pickle"
        network = checkpoint.content["G_ema"]
        assert network.class_name == "Generator"
        state = read_all(_state(network))
    assert {"torch_utils", "dnnlib"}.isdisjoint(sys.modules)
    found = [[name, list(value.shape)] for name, value in state.items()]
    assert found == [entry[:2] for entry in keys["keys"]]  # in this order
    for name, value in state.items():
        made = published.value(name, value.shape, set(state), "stylegan", True)
        assert made is None or np.array_equal(value.numpy(), made), name


# ---- hypothesis: equal to torch's own reader, and never anything but an answer or a refusal

_tensors = st.builds(
    lambda shape, dtype: torch.arange(int(np.prod(shape))).to(dtype).reshape(shape),
    st.lists(st.integers(0, 4), max_size=3).map(tuple),
    st.sampled_from([torch.float32, torch.float16, torch.int64, torch.bool, torch.bfloat16]),
)
_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
# Longer integers are refused as keys: their hashes can be made equal.
_keys = st.text(max_size=8) | st.integers(-(2**63), 2**64 - 1)
_trees = st.recursive(
    _scalars | _tensors,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(_keys, inner, max_size=4)
        | st.tuples(inner, inner)
    ),
    max_leaves=12,
)


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(wanted, Tensor):
        read = found.read()
        return read.dtype == wanted.dtype and torch.equal(read, wanted)
    if isinstance(wanted, dict):
        return list(found) == list(wanted) and all(_same(found[k], wanted[k]) for k in wanted)
    if isinstance(wanted, list | tuple):
        return (
            type(found) is type(wanted)
            and len(found) == len(wanted)
            and all(map(_same, found, wanted))
        )
    return type(found) is type(wanted) and found == wanted


@given(content=_trees, legacy=st.booleans())
def test_any_tree_is_read_as_torch_reads_it(
    tmp_path_factory: pytest.TempPathFactory, content: Any, legacy: bool
) -> None:
    path = save(tmp_path_factory.mktemp("tree") / "tree.pt", content, legacy)
    wanted = torch.load(path, weights_only=True)
    with open_checkpoint(path) as checkpoint:
        assert _same(checkpoint.content, wanted)


def _samples(folder: Path) -> list[bytes]:
    content = {"state_dict": {"a": torch.ones(4, 4), "b": torch.zeros(3).bool()}, "step": 5}
    paths = [save(folder / f"{legacy}.pt", content, legacy) for legacy in (False, True)]
    write_tensors(folder / "s.safetensors", {"a": torch.ones(4, 4)})
    return [path.read_bytes() for path in (*paths, folder / "s.safetensors")]


@given(data=st.data())
def test_damage_gives_an_answer_or_a_refusal_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    content = bytearray(data.draw(st.sampled_from(_samples(folder))))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = folder / "damaged"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with contextlib.suppress(CheckpointError), open_checkpoint(path) as checkpoint:
        _read_everything(checkpoint.content)


def _read_everything(tree: Any) -> None:
    if isinstance(tree, TensorRef):
        tree.read()
    for child in tree.values() if isinstance(tree, dict) else ():
        _read_everything(child)


def test_a_bool_that_is_neither_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pt", {"a": torch.tensor([True, False, True] * 9)}, True)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"\x07")
    with open_checkpoint(path) as checkpoint, pytest.raises(CheckpointError, match="bool"):
        checkpoint.content["a"].read()


def test_the_file_is_closed_whatever_happens(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pt", {"a": torch.ones(3)}, False)
    checkpoint: Checkpoint
    with open_checkpoint(path) as checkpoint:
        pass
    assert checkpoint.stream.closed
    before = len(os.listdir("/proc/self/fd"))
    path.write_bytes(b"\x80\x02c")
    with pytest.raises(CheckpointError):
        open_checkpoint(path)
    assert len(os.listdir("/proc/self/fd")) == before
