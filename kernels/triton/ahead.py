"""The kernels compiled ahead of time, for any architecture and without a GPU.

For the tests, and for those who load PTX or machine code themselves (TensorRT plugins).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from lreorg_fast.kernels.triton import launch
from lreorg_fast.kernels.triton.coupling_kernels import add_kernel, scale_shift_kernel
from lreorg_fast.kernels.triton.hidden_kernels import hidden_gradient_kernel, hidden_kernel

WARP = 32
STRIDE_ALIGNMENT = 16  # what Triton's own launches tell the compiler about pointers and sizes

POINTER_TYPES = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16"}
SIZES = ("rows_total", "width", "depth", "hidden_depth", "dim", "growth", "table_stride")
STREAMS = ("target", "table", "gradient", "bias")


@dataclasses.dataclass(frozen=True)
class Variant:
    """One kernel as one of the launches of ``launch.py`` would compile it.

    Attributes:
        name: of the variant.
        kernel: what is compiled.
        tile: its tile.
        settings: its compile-time arguments, but those that follow from tile and products.
        constants: run-time arguments whose value is built in, as Triton does with 1.
    """

    name: str
    kernel: Any
    tile: launch.Tile
    settings: dict[str, Any]
    constants: dict[str, int] = dataclasses.field(default_factory=dict)


def variants(growth: int = 32) -> tuple[Variant, ...]:
    """Every kernel in every tile and role, for sizes that are multiples of the tiles."""
    made: list[Variant] = []
    for tile in launch.ADD_TILES:
        made += _add_variants(tile)
    for tile in launch.SCALE_SHIFT_TILES:
        made += _scale_shift_variants(tile)
    for tile in launch.HIDDEN_TILES:
        made += _hidden_variants(tile, growth)
    return tuple(made)


def largest_tiles() -> tuple[launch.Tile, ...]:
    """The tile of each kernel that takes most registers and shared memory."""
    return launch.ADD_TILES[0], launch.SCALE_SHIFT_TILES[0], launch.HIDDEN_TILES[0]


def compiled(variant: Variant, capability: int, products: torch.dtype) -> Any:
    """A variant compiled for one architecture.

    Args:
        variant: one of :func:`variants`.
        capability: compute capability without its point, such as 80, 90 or 120.
        products: torch.float32, torch.bfloat16 or torch.float16.

    Returns:
        Triton's compiled kernel: ``asm["ptx"]``, ``asm["cubin"]`` and ``metadata.shared`` (bytes).
    """
    tile, kernel = variant.tile, variant.kernel
    depth = tile.depth * 2 // products.itemsize
    constants = {
        **variant.settings,
        **variant.constants,
        "EVEN": True,
        "OPERAND": launch.OPERANDS[products],
        "PRECISION": launch.precision(products),
        "BLOCK_M": tile.rows,
        "BLOCK_K": depth,
    }
    if tile.columns:
        constants["BLOCK_N"] = tile.columns
    signature = {
        name: "constexpr" if name in constants else _type(name, variant, products)
        for name in kernel.arg_names
    }
    aligned = [["tt.divisibility", STRIDE_ALIGNMENT]]
    attributes = {
        (i,): aligned
        for i, kind in enumerate(signature.values())
        if kind == "i32" or kind.startswith("*")
    }
    source = ASTSource(kernel, signature, constants, attributes)
    options = {"num_warps": tile.warps, "num_stages": tile.stages}
    return triton.compile(source, target=GPUTarget("cuda", capability, WARP), options=options)


def _add_variants(tile: launch.Tile) -> list[Variant]:
    roles = {
        # (table, indexed, hidden, copy), and which stride of the weights is 1.
        "condition": ((True, True, False, True), "depth_stride"),
        "dense": ((True, False, True, True), "depth_stride"),
        "gradient": ((False, False, True, False), "stride"),
        "condition_gradient": ((False, False, False, False), "stride"),
    }
    made = []
    for role, (flags, unit) in roles.items():
        table, indexed, hidden, copy = flags
        settings = {
            "SIGN": 1.0,
            "TABLE": table,
            "INDEXED": indexed,
            "HIDDEN": hidden,
            "COPY": copy,
            "HIDDEN_EVEN": True,
        }
        constants = {f"direct_{unit}": 1, f"output_{unit}": 1}
        name = f"add_{role}_{tile.rows}x{tile.columns}"
        made.append(Variant(name, add_kernel, tile, settings, constants))
    return made


def _scale_shift_variants(tile: launch.Tile) -> list[Variant]:
    made = []
    for hidden in (False, True):
        for inverse in (False, True):
            for gradient in (False, True):
                settings = {
                    "INVERSE": inverse,
                    "GRADIENT": gradient,
                    "INDEXED": not hidden,
                    "HIDDEN": hidden,
                    "COPY": True,
                    "HIDDEN_EVEN": True,
                }
                parts = ["dense" if hidden else "condition", "inverse" if inverse else "forward"]
                parts += ["gradient"] if gradient else []
                name = f"scale_shift_{'_'.join(parts)}_{tile.rows}x{tile.columns}"
                made.append(Variant(name, scale_shift_kernel, tile, settings))
    return made


def _hidden_variants(tile: launch.Tile, growth: int) -> list[Variant]:
    settings = {"SLOPE": 0.01, "GROWTH": launch.padded_growth(growth)}
    return [
        Variant(f"hidden_{tile.rows}", hidden_kernel, tile, settings),
        Variant(f"hidden_gradient_{tile.rows}", hidden_gradient_kernel, tile, settings),
    ]


def _type(name: str, variant: Variant, products: torch.dtype) -> str:
    if name in SIZES or name.endswith("_stride"):
        return "i32"
    if name == "clamp":
        return "fp32"
    if name == "index":
        return "*i32"
    # The hidden layers' gradient is read by products; a stream's is not.
    rounded_gradient = name == "gradient" and variant.kernel is hidden_gradient_kernel
    if name in STREAMS and not rounded_gradient:
        return "*fp32"
    return POINTER_TYPES[products]
