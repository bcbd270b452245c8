"""What lies between convolutions, on a CPU, in one native pass each (``kernels/cpu/networks``).

Maps are ``(N, H, W, C)`` contiguous, float32 or bfloat16: the memory of a channels-last
``(N, C, H, W)``. All other arguments are float32. Inference only: no gradient passes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lreorg_fast.errors import ConfigError

_DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16"}
View = tuple[int, str, tuple[int, ...]]


def tensor_view(tensor: Tensor) -> View:
    """What the native module needs of a tensor; it compares all shapes itself."""
    dtype = _DTYPES.get(tensor.dtype)
    if dtype is None or tensor.device.type != "cpu" or not tensor.is_contiguous():
        raise ConfigError(
            f"a pass got a {tensor.dtype} tensor on {tensor.device} of strides {tensor.stride()}, "
            "but takes contiguous float32 or bfloat16 on the CPU"
        )
    return tensor.data_ptr(), dtype, tuple(tensor.shape)


def _maybe(tensor: Tensor | None) -> View | None:
    return None if tensor is None else tensor_view(tensor)


class Passes:
    """The passes of one instruction set: ``auto``, or a name of :func:`available`."""

    def __init__(self, kernels: str = "auto") -> None:
        from lreorg_fast import _native

        try:
            self._native = _native.NetworkPasses(kernels)
        except ValueError as error:
            raise ConfigError(
                f"kernels is {kernels!r}, but must be 'auto' or one of {available()}"
            ) from error

    @property
    def kernels(self) -> str:
        return self._native.kernels

    def finish(
        self,
        x: Tensor,
        *,
        gain: Tensor,
        bias: Tensor,
        noise: Tensor | None,
        next_style: Tensor | None,
        colours: Tensor | None = None,
        colour_bias: Tensor | None = None,
        skip: Tensor | None = None,
        limit: float | None = None,
    ) -> tuple[Tensor | None, Tensor | None]:
        """``a = leaky_relu(x * gain + noise + bias, 0.2)`` -> (``a * next_style``, colours of a).

        ``gain`` and ``next_style`` are ``(N, C)``, ``bias`` ``(C,)``, ``noise`` ``(N or 1, H, W)``.
        ``next_style`` None saves writing the map, ``x`` is overwritten otherwise. ``colours``
        ``(N, 3, C)`` makes a picture ``(N, 3, H, W)``; ``skip`` is the picture so far, of half
        the size. With ``limit`` ``a`` is clamped to ``[-limit, limit]``, and so are the colours
        before the skip is added.
        """
        out = None if next_style is None else x
        picture = None
        if colours is not None:
            picture = torch.empty(len(x), 3, *x.shape[1:3])
        self._native.finish(
            in_=tensor_view(x),
            out=_maybe(out),
            gain=tensor_view(gain),
            bias=tensor_view(bias),
            noise=_maybe(noise),
            next_style=_maybe(next_style),
            colours=_maybe(colours),
            colour_bias=_maybe(colour_bias),
            skip=_maybe(skip),
            picture=_maybe(picture),
            threads=torch.get_num_threads(),
            limit=math.inf if limit is None else limit,
        )
        return out, picture

    def up_finish(
        self,
        phases: Sequence[Tensor],
        *,
        gain: Tensor,
        bias: Tensor,
        noise: Tensor | None,
        next_style: Tensor,
        limit: float | None = None,
    ) -> Tensor:
        """As :meth:`finish` after the 4x4 filter over a transposed convolution's four phases.

        ``phases``: even and odd rows, in them even and odd columns, of the ``(2h+1, 2w+1)``
        result; ``(N, 2h, 2w, C)`` comes out.
        """
        even, odd = phases[0], phases[3]
        height, width = 2 * odd.shape[1], 2 * odd.shape[2]
        out = even.new_empty(len(even), height, width, even.shape[3])
        self._native.up_finish(
            phases=[tensor_view(phase) for phase in phases],
            out=tensor_view(out),
            gain=tensor_view(gain),
            bias=tensor_view(bias),
            noise=_maybe(noise),
            next_style=tensor_view(next_style),
            threads=torch.get_num_threads(),
            limit=math.inf if limit is None else limit,
        )
        return out

    def prelu(self, x: Tensor, bias: Tensor, slope: Tensor) -> Tensor:
        """``x + bias``, negative values times ``slope`` ``(C,)``; ``x`` is overwritten.

        ``bias`` ``(9, C)``: first, inner and last row times first, inner and last column.
        """
        self._native.prelu(
            in_=tensor_view(x),
            out=tensor_view(x),
            bias=tensor_view(bias),
            slope=tensor_view(slope),
            threads=torch.get_num_threads(),
        )
        return x

    def mean(self, x: Tensor) -> Tensor:
        """``(N, H, W, C) -> (N, C)``, summed in float32."""
        rows = torch.empty(len(x), x.shape[1], x.shape[3])
        self._native.row_sums(
            in_=tensor_view(x), out=tensor_view(rows), threads=torch.get_num_threads()
        )
        return rows.sum(dim=1) / (x.shape[1] * x.shape[2])

    def gated_sum(
        self, x: Tensor, gate: Tensor, offset: Tensor, shortcut: Tensor, stride: int
    ) -> Tensor:
        """``x * gate + offset + shortcut`` with every ``stride``-th pixel of the shortcut.

        ``gate`` and ``offset`` are ``(N, C)``; ``x`` is overwritten.
        """
        self._native.gated_sum(
            in_=tensor_view(x),
            gate=tensor_view(gate),
            offset=tensor_view(offset),
            shortcut=tensor_view(shortcut),
            stride=stride,
            out=tensor_view(x),
            threads=torch.get_num_threads(),
        )
        return x

    def stretched_sum(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """``fine`` (overwritten) plus ``coarse`` stretched bilinearly, corner on corner."""
        self._native.stretched_sum(
            fine=tensor_view(fine),
            coarse=tensor_view(coarse),
            out=tensor_view(fine),
            threads=torch.get_num_threads(),
        )
        return fine


def available() -> list[str]:
    """Instruction sets that this build has and this machine runs, fastest first."""
    from lreorg_fast import _native

    return _native.network_kernels()


@functools.cache
def default_passes() -> Passes:
    return Passes()
