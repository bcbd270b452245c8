"""What is compared, as data: the engine in each of its types, its peers, and the folded peers."""

from __future__ import annotations

import dataclasses
import fnmatch
import importlib.util
from collections.abc import Sequence

from lreorg_fast.errors import ConfigError

ENGINE = "engine"


@dataclasses.dataclass(frozen=True)
class Variant:
    """One row of the table.

    Attributes:
        runtime: who executes; a key of :data:`PACKAGES`.
        network: "reference" (the definition, 14 passes) or "folded" (the engine's algebra as plain
            torch operations, 10 dependent steps). The engine folds for itself.
        dtype: type of the weights; of everything else too, but for the engine.
        activations: the engine's option; peers have "auto".
    """

    runtime: str
    network: str
    dtype: str
    activations: str = "auto"

    @property
    def name(self) -> str:
        parts = [self.runtime, self.dtype]
        if self.activations != "auto":
            parts.append(f"{self.activations}-activations")
        if self.runtime != ENGINE and self.network == "folded":
            parts.insert(0, "folded")
        return "-".join(parts)

    @property
    def needs_onnx(self) -> bool:
        return "onnx" in PACKAGES[self.runtime]

    def missing(self) -> str | None:
        """None where it can run, else what to install."""
        absent = [name for name in PACKAGES[self.runtime] if importlib.util.find_spec(name) is None]
        return f"not installed: pip install {' '.join(absent)}" if absent else None


# The Python packages beyond torch that each runtime needs; pip knows them by the same names.
PACKAGES: dict[str, tuple[str, ...]] = {
    ENGINE: (),
    "eager": (),
    "compile": (),
    "onnxruntime": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("onnx", "onnxscript", "openvino"),
}

PEERS = (
    Variant("eager", "reference", "float32"),
    Variant("eager", "reference", "bfloat16"),
    Variant("compile", "reference", "float32"),
    Variant("compile", "reference", "bfloat16"),
    Variant("onnxruntime", "reference", "float32"),
    Variant("openvino", "reference", "float32"),
    Variant("openvino", "reference", "bfloat16"),
    Variant("eager", "folded", "float32"),
    Variant("eager", "folded", "bfloat16"),
    Variant("compile", "folded", "float32"),
    Variant("compile", "folded", "bfloat16"),
    Variant("openvino", "folded", "float32"),
    Variant("openvino", "folded", "bfloat16"),
)
# With this one's error the bfloat16 variants are compared.
PLAIN_BFLOAT16 = PEERS[1].name


def engines() -> tuple[Variant, ...]:
    """The engine in every type that the registry offers, and without rounded activations."""
    from bench.cases import offered_dtypes  # brings torch, which not every worker needs

    dtypes = offered_dtypes("cpu")
    rounded = [dtype for dtype in dtypes if dtype != "float32"]
    return (
        *(Variant(ENGINE, "folded", dtype) for dtype in dtypes),
        *(Variant(ENGINE, "folded", dtype, "float32") for dtype in rounded),
    )


def choose(patterns: Sequence[str]) -> list[Variant]:
    """The variants whose names match a pattern ("engine-*"), in table order.

    Patterns that begin with "!" leave out what they match; with such patterns alone the rest stays.

    Raises:
        ConfigError: a pattern matches nothing, or nothing is left.
    """
    known = (*engines(), *PEERS)
    names = [variant.name for variant in known]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern.removeprefix("!")):
            raise ConfigError(
                f"variants has {pattern!r}, which matches nothing; the names are "
                f"{', '.join(names)}."
            )
    left_out = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    wanted = [pattern for pattern in patterns if not pattern.startswith("!")] or ["*"]
    chosen = [v for v in known if _matches(v, wanted) and not _matches(v, left_out)]
    if not chosen:
        raise ConfigError(f"variants is {','.join(patterns)!r}, which leaves nothing to time.")
    return chosen


def _matches(variant: Variant, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatch(variant.name, pattern) for pattern in patterns)
