"""Compiles the generator's kernels for the architectures in argv; prints a line for each.

Run by test_triton_generator.py in a process of its own: Triton compiles only where it was imported
without ``TRITON_INTERPRET``.
"""

from __future__ import annotations

import sys
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from lreorg_fast.kernels.triton import generator_kernels as kernels

# Stands for a tensor or a number that Triton is told to be a multiple of 16.
MAP, VECTOR, TABLE, NUMBER = "*bf16", "*fp32", "*i32", "i32"
LIMIT = "fp32"  # any number

PRODUCT = {
    "x": VECTOR,
    "matrices": VECTOR,
    "offsets": VECTOR,
    "out": VECTOR,
    "table": TABLE,
    "x_stride": NUMBER,
    "out_stride": NUMBER,
    "TERMS": 64,
    "RESULTS": 32,
}
MODULATE = {
    "x": VECTOR,
    "style": VECTOR,
    "out": MAP,
    "pixels": NUMBER,
    "x_stride": NUMBER,
    "style_stride": NUMBER,
    "CHANNELS": 512,
    "BLOCK_P": 4,
    "BLOCK_C": 512,
}
UP_FINISH = {
    "x": MAP,
    "out": MAP,
    "gain": VECTOR,
    "bias": VECTOR,
    "noise": VECTOR,
    "next_style": VECTOR,
    "height": NUMBER,
    "width": NUMBER,
    "style_stride": NUMBER,
    "gain_stride": NUMBER,
    "noise_stride": NUMBER,
    "limit": None,
    "CHANNELS": 128,
    "ROWS": 4,
    "BLOCK_X": 16,
    "BLOCK_C": 64,
}
FINISH = {
    "x": MAP,
    "out": MAP,
    "gain": VECTOR,
    "bias": VECTOR,
    "noise": VECTOR,
    "next_style": VECTOR,
    "colour_style": VECTOR,
    "colour_weight": VECTOR,
    "colour_bias": VECTOR,
    "skip": VECTOR,
    "picture": VECTOR,
    "height": NUMBER,
    "width": NUMBER,
    "style_stride": NUMBER,
    "gain_stride": NUMBER,
    "noise_stride": NUMBER,
    "limit": None,
    "CHANNELS": 128,
    "BLOCK_P": 16,
    "BLOCK_C": 128,
}
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "styles": (kernels.product_kernel, PRODUCT),
    "demodulation": (kernels.product_kernel, {**PRODUCT, "offsets": None}),
    "modulate": (kernels.modulate_kernel, MODULATE),
    "finish": (kernels.finish_kernel, FINISH),
    "last finish": (kernels.finish_kernel, {**FINISH, "next_style": None, "noise": None}),
    "up finish": (kernels.up_finish_kernel, UP_FINISH),
    "clamped finish": (kernels.finish_kernel, {**FINISH, "limit": LIMIT}),
    "clamped up finish": (kernels.up_finish_kernel, {**UP_FINISH, "limit": LIMIT}),
    "float32 up finish": (kernels.up_finish_kernel, {**UP_FINISH, "x": VECTOR, "out": VECTOR}),
}


def compiled(kernel: Any, arguments: dict[str, Any], architecture: int) -> Any:
    types = {n: a if isinstance(a, str) else "constexpr" for n, a in arguments.items()}
    constants = {(i,): a for i, a in enumerate(arguments.values()) if not isinstance(a, str)}
    attributes = {
        (i,): [["tt.divisibility", 16]]
        for i, a in enumerate(arguments.values())
        if isinstance(a, str) and a != LIMIT
    }
    source = ASTSource(kernel, types, constants, attributes)
    return triton.compile(source, target=GPUTarget("cuda", architecture, 32))


def main() -> None:
    for architecture in map(int, sys.argv[1:]):
        for name, (kernel, arguments) in CASES.items():
            made = compiled(kernel, arguments, architecture)
            assert made.asm["cubin"], name
            print(f"sm_{architecture}, {name}: {made.metadata.shared} bytes of shared memory")


if __name__ == "__main__":
    main()
