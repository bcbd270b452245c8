"""Every Triton kernel compiled for GPUs that this machine need not have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from triton_imports import imported_anew

# What sm_120 (and sm_86, sm_89) offer one block, the least of all architectures.
LEAST_SHARED_BYTES = 99 * 1024


@pytest.fixture(scope="module")
def ahead(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    cache: Path = tmp_path_factory.mktemp("triton")
    with imported_anew(interpret=False), pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(cache))
        from lreorg_fast.kernels.triton import ahead as module

        yield module


@pytest.mark.parametrize("capability", [80, 90, 120])
@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
def test_every_kernel_compiles_for_bfloat16(ahead: Any, capability: int) -> None:
    names = {check(ahead, variant, capability, torch.bfloat16) for variant in in_largest(ahead)}
    assert names == {
        "add_kernel",
        "scale_shift_kernel",
        "hidden_kernel",
        "hidden_gradient_kernel",
    }


@pytest.mark.parametrize("capability", [80, 90, 120])
@pytest.mark.parametrize("products", [torch.float32, torch.float16], ids=str)
@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
def test_training_kernels_compile_for_other_products(
    ahead: Any, capability: int, products: torch.dtype
) -> None:
    variants = [variant for variant in in_largest(ahead) if "gradient" in variant.name]
    # float32 compiles slowly: one of each kernel that has a backward.
    by_kernel = {variant.kernel.__name__: variant for variant in variants}
    assert len(by_kernel) == 3
    for variant in by_kernel.values():
        check(ahead, variant, capability, products)


def in_largest(ahead: Any) -> list[Any]:
    """The variants in the tiles that take most; smaller ones are the same code."""
    return [variant for variant in ahead.variants() if variant.tile in ahead.largest_tiles()]


def check(ahead: Any, variant: Any, capability: int, products: torch.dtype) -> str:
    kernel = ahead.compiled(variant, capability, products)
    assert re.search(rf"\.target sm_{capability}", kernel.asm["ptx"]), variant.name
    assert kernel.asm["cubin"].startswith(b"\x7fELF"), variant.name
    assert kernel.metadata.shared <= LEAST_SHARED_BYTES, variant.name
    assert "mma" in kernel.asm["ptx"], f"{variant.name} uses no tensor cores"
    return str(variant.kernel.__name__)
