"""A function of CUDA tensors recorded once per shape as a CUDA graph and replayed.

A thousand launches from Python cost more time than the GPU needs for them; a replay is one.
"""

from __future__ import annotations

import collections
import dataclasses
import threading
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Function = Callable[[Sequence[Tensor]], list[Tensor]]


@dataclasses.dataclass
class _Recording:
    """A graph, the tensors that it reads and writes, and when its last user was done."""

    graph: torch.cuda.CUDAGraph
    inputs: list[Tensor]
    outputs: list[Tensor]
    done: torch.cuda.Event


class Replayed:
    """Runs a function of (tokens, dim) float32 CUDA tensors; safe for several threads and streams.

    A number of tokens is recorded when it is seen for the second time: the first call compiles
    what must be compiled, and sizes that never come back cost no memory. Inside of somebody
    else's capture the function just runs, to become part of that.

    Args:
        function: launches work on the current stream, without reading results on the host.
        most: recordings that are kept, the last used; each holds its own memory.
    """

    def __init__(self, function: Function, most: int = 8) -> None:
        self._function = function
        self._most = most
        self._seen: set[int] = set()
        self._recordings: collections.OrderedDict[int, _Recording] = collections.OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        tokens = len(inputs[0])
        if tokens == 0 or torch.cuda.is_current_stream_capturing():
            return self._function(inputs)
        with self._lock, torch.cuda.device(inputs[0].device):
            if tokens not in self._seen:
                self._seen.add(tokens)
                return self._function(inputs)
            return self._replay(self._recording(tokens, inputs), inputs)

    def _replay(self, recording: _Recording, inputs: Sequence[Tensor]) -> list[Tensor]:
        stream = torch.cuda.current_stream()
        # Callers on other streams use the same memory, one after the other.
        stream.wait_event(recording.done)
        for own, given in zip(recording.inputs, inputs, strict=True):
            own.copy_(given)
        recording.graph.replay()
        results = [output.clone() for output in recording.outputs]
        recording.done.record(stream)
        return results

    # A recording that begins in inference mode is written to outside of it later.
    @torch.inference_mode(False)
    def _recording(self, tokens: int, inputs: Sequence[Tensor]) -> _Recording:
        if tokens in self._recordings:
            self._recordings.move_to_end(tokens)
            return self._recordings[tokens]
        if len(self._recordings) == self._most:
            _, oldest = self._recordings.popitem(last=False)
            # Its memory is freed with it, so nobody may still be using it.
            oldest.done.synchronize()
        own = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in inputs]
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            outputs = self._function(own)
        recording = _Recording(graph, own, outputs, torch.cuda.Event())
        self._recordings[tokens] = recording
        return recording
