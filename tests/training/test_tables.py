"""Tables of a bundle: what an attribute's mean is the mean of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from bundles import toy_bundle
from toy_judges import ToyClip

from lreorg_fast.errors import ConfigError
from lreorg_fast.keywords import KEYWORDS
from lreorg_fast.training.tables import ClipKeywords, TableSizes, build_tables
from lreorg_fast.weights import open_bundle
from lreorg_fast.weights.parts import load_part

SIZES = {"latents": 120, "groups": 4, "members": 2, "labelled": 100}
TABLE = {name: KEYWORDS[name] for name in ("identity", "age")}


@pytest.mark.parametrize("certain", [1.0, 0.5, 0.01])
def test_a_mean_is_of_the_pictures_that_clip_is_surest_of(certain: float, tmp_path: Path) -> None:
    bundle = open_bundle(toy_bundle(tmp_path / "toy"))
    generator: Any = load_part(bundle, "generator")
    net: Any = load_part(bundle, "cdfnet")
    meaning = ClipKeywords(ToyClip(), TABLE)
    sizes = TableSizes(certain=certain, **SIZES)
    tables = build_tables(sizes, net, generator, meaning, TABLE)
    z = torch.randn(120, 16, generator=torch.Generator().manual_seed(sizes.seed))
    w = generator.mapping(z)[:100]
    scores = meaning.contents(generator.synthesis(w).clamp(-1, 1), ["age"])[0]
    f, _ = net.disentangle(w, meaning.keyword_features()["age"])
    lead = (scores[:, 0] - scores[:, 1]).tolist()
    for content, sign in ((0, 1), (1, -1)):
        # Those of the content, by how much it leads.
        rows = sorted((i for i in range(100) if sign * lead[i] > 0), key=lambda i: -sign * lead[i])
        count = -int(-certain * len(rows) // 1)
        assert 1 <= count <= len(rows)
        expected = f[rows[:count]].mean(0)
        torch.testing.assert_close(tables["attribute.age.means"][content], expected)


def test_a_share_of_nothing_is_refused() -> None:
    for certain in (0.0, 1.5, float("nan")):
        with pytest.raises(ConfigError, match="certain"):
            TableSizes(certain=certain)
