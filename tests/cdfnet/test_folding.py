from __future__ import annotations

from typing import Any

import pytest
import torch

from lreorg_fast.cdfnet import CDFNet, CDFNetConfig
from lreorg_fast.cdfnet.folding import fold
from lreorg_fast.errors import ConfigError
from tolerances import tolerance


def test_a_condition_subnet_is_one_matrix_and_a_constant(small: Any) -> None:
    folded = fold(small.net)
    k = small.keywords[small.hidden]
    table = torch.from_numpy(folded.keywords.table(k.numpy()))
    for j, block in enumerate(folded.blocks):
        subnets = small.net.blocks[j].cond
        dim = small.net.config.dim
        matrices = [
            block.condition_add,
            block.condition_scale_shift[:dim],
            block.condition_scale_shift[dim:],
        ]
        for role, subnet in enumerate((subnets.add, subnets.scale, subnets.shift)):
            made = small.latent @ torch.from_numpy(matrices[role]).T + table[j, role]
            torch.testing.assert_close(made, subnet(small.latent, k), rtol=0, atol=1e-13)


def test_a_dense_pair_is_its_two_subnets(small: Any) -> None:
    block, dense = fold(small.net).blocks[1], small.net.blocks[1].dense
    scale, shift = torch.from_numpy(block.dense_scale_shift(small.latent.numpy()))
    torch.testing.assert_close(scale, dense.scale(small.latent), rtol=0, atol=1e-13)
    torch.testing.assert_close(shift, dense.shift(small.latent), rtol=0, atol=1e-13)


def test_the_folded_network_inverts_itself(small: Any) -> None:
    folded = fold(small.net)
    s = small.latent.numpy()
    table = folded.keywords.table(small.keywords[small.hidden].numpy())
    tables = table[None].repeat(len(s), axis=0)
    loss, back = folded.fuse(*folded.disentangle(0 * s, s, tables), tables)
    assert abs(back - s).max() < tolerance("cdfnet inverse", "float64")
    assert abs(loss).max() < tolerance("cdfnet inverse", "float64")


def test_folding_starts_from_any_dtype() -> None:
    config = CDFNetConfig(dim=5, cond_dim=4, num_blocks=1, growth=2)
    net = CDFNet(config)
    single, double = fold(net).tensors(), fold(net.double()).tensors()
    assert all((single[name] == double[name]).all() for name in double)


def test_a_damaged_network_is_refused() -> None:
    net = CDFNet(CDFNetConfig(dim=5, cond_dim=4, num_blocks=1, growth=2))
    net.blocks[0].dense.add.layers[2].bias.data[0] = float("nan")
    with pytest.raises(ConfigError, match=r"blocks\.0\.dense\.add\.layers\.2\.bias is not finite"):
        fold(net)
