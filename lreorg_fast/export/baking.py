"""Replacement features that become part of a file, by names that people can write.

Everybody who goes through such a file gets the same one: nothing of the person is in it, but
nobody is told apart from anybody else either.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from lreorg_fast.errors import BundleError, ConfigError
from lreorg_fast.export.onnx_options import IDENTITY
from lreorg_fast.keywords import Keyword
from lreorg_fast.privacy import AttributeAnonymizer, Codebook
from lreorg_fast.weights.bundle import Bundle

NEUTRAL = "neutral"


def baked_features(bundle: Bundle, texts: Iterable[str]) -> dict[str, NDArray[np.float32]]:
    """Features (dim,) by keyword for ``onnx(replace=...)``.

    Args:
        bundle: whose tables hold the features.
        texts: each ``NAME=VALUE``: ``identity=GROUP``, the centre of that group of the codebook;
            ``KEYWORD=CONTENT``, the content's mean; ``KEYWORD=neutral``, the mean of all contents,
            as the rule of that name.

    Raises:
        ConfigError: a text of another form, an unknown keyword, group or content.
        BundleError: the bundle lacks a table.
    """
    keywords = {keyword.name: keyword for keyword in bundle.manifest.keywords}
    tables = {name: tensor.float().numpy() for name, tensor in bundle.tensors("tables").items()}
    features: dict[str, NDArray[np.float32]] = {}
    for text in texts:
        name, found, value = text.partition("=")
        if not found or name not in keywords or name in features:
            raise ConfigError(
                f"bake is {text!r}, but must be NAME=VALUE, each NAME once and one of "
                f"{', '.join(keywords)}"
            )
        features[name] = _feature(tables, keywords[name], value)
    return features


def _feature(
    tables: dict[str, NDArray[np.float32]], keyword: Keyword, value: str
) -> NDArray[np.float32]:
    if keyword.name == IDENTITY:
        book = Codebook(_table(tables, "codebook.means"), _table(tables, "codebook.members"))
        if not value.isascii() or not value.isdigit() or int(value) >= book.num_groups:
            raise ConfigError(
                f"bake is '{IDENTITY}={value}', but the value must be the number of a group, 0 to "
                f"{book.num_groups - 1}"
            )
        return book.centre(int(value))
    means = _table(tables, f"attribute.{keyword.name}.means")
    if value == NEUTRAL:
        return AttributeAnonymizer(means, NEUTRAL).replacement(means[0]).feature
    if value not in keyword.contents:
        raise ConfigError(
            f"bake is '{keyword.name}={value}', but the value must be one of "
            f"{', '.join((*keyword.contents, NEUTRAL))}"
        )
    mean: NDArray[np.float32] = means[keyword.contents.index(value)]
    return mean


def _table(tables: dict[str, NDArray[np.float32]], name: str) -> NDArray[np.float32]:
    if name not in tables:
        raise BundleError(f"the bundle's tables lack '{name}'; rebuild the bundle")
    return tables[name]
