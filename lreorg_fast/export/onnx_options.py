"""What an export is asked for, checked before any network is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lreorg_fast.errors import ConfigError
from lreorg_fast.export.onnx_cdfnet import FORMS
from lreorg_fast.export.onnx_graph import checked_opset
from lreorg_fast.keywords import DEFAULT_HIDE, DEFAULT_KEEP, check_selection
from lreorg_fast.log import once

IDENTITY = "identity"


@dataclass(frozen=True)
class Stage:
    """What one file does.

    Attributes:
        encodes: it takes pictures; else latents.
        passes: of CDFNet: ``reorganize``, ``key`` (the key feature of the last hidden keyword),
            or None.
        renders: it gives pictures.
        judges: it is one of the networks that verify a picture, and nothing else.
    """

    encodes: bool
    passes: Literal["reorganize", "key"] | None
    renders: bool
    judges: Literal["recognizer", "detector"] | None = None


STAGES: dict[str, Stage] = {
    "encoder": Stage(True, None, False),
    "cdfnet": Stage(False, "reorganize", False),
    "generator": Stage(False, None, True),
    "pipeline": Stage(True, "reorganize", True),
    # The pipeline in the parts between which a host draws replacements.
    "analysis": Stage(True, "key", False),
    "key": Stage(False, "key", False),
    "rendering": Stage(False, "reorganize", True),
    "recognizer": Stage(True, None, False, "recognizer"),
    "detector": Stage(True, None, False, "detector"),
}


@dataclass(frozen=True)
class OnnxOptions:
    """One file's settings; :func:`lreorg_fast.export.onnx` describes the fields.

    A setting that would have no effect is refused rather than ignored.
    """

    stage: str = "pipeline"
    dtype: str = "float32"
    form: str = "standard"
    opset: int | None = None
    batch: int | None = None
    hide: Iterable[str] | None = None
    keep: Iterable[str] | None = None
    replace: Mapping[str, Any] = field(default_factory=dict)
    keep_input: bool = False

    def __post_init__(self) -> None:
        _check_choice("stage", self.stage, STAGES)
        _check_choice("form", self.form, FORMS)
        object.__setattr__(self, "opset", checked_opset(self.dtype, self.opset))
        if self.batch is not None and (
            isinstance(self.batch, bool) or not isinstance(self.batch, int) or self.batch < 1
        ):
            raise ConfigError(
                f"batch is {self.batch!r}, but must be a number of faces from 1, or None for any"
            )
        self._refuse_idle()

    @property
    def chosen_opset(self) -> int:
        assert self.opset is not None
        return self.opset

    @property
    def passes(self) -> str | None:
        return STAGES[self.stage].passes

    def resolve(self, available: Iterable[str], dim: int) -> Selection:
        """Check against the keywords of a bundle and the width of its latents.

        Raises:
            ConfigError: unknown or contradicting keywords, nothing to hide, a replacement that
                does not fit.
        """
        names = tuple(available)
        hide = DEFAULT_HIDE if self.hide is None else self.hide
        hide = hide if isinstance(hide, str) else tuple(hide)
        keep = self.keep
        if keep is None:
            keep = tuple(name for name in DEFAULT_KEEP if name not in hide and name in names)
        hidden, kept = check_selection(hide, keep if self.passes == "reorganize" else (), names)
        if not hidden:
            raise ConfigError("hide is empty, so nothing would be anonymized; name a keyword")
        if IDENTITY not in hidden:
            once("identity-kept", "identity is not hidden: the person stays recognisable")
        if self.keep_input and not kept:
            raise ConfigError("keep_input has no effect: keep is empty; name keywords, or drop it")
        baked = {name: _feature(name, value, dim) for name, value in self.replace.items()}
        for name in baked:
            if name not in hidden:
                raise ConfigError(
                    f"replace has a feature for '{name}', which is not hidden; hidden are "
                    f"{', '.join(hidden)}"
                )
        if self.passes == "key" and hidden[-1] in baked:
            raise ConfigError(
                f"the key feature of '{hidden[-1]}' has no use: its replacement is baked in; "
                "export stage 'pipeline' or 'rendering'"
            )
        others = tuple(name for name in names if name not in hidden) if self.keep_input else ()
        return Selection(hidden, kept, baked, others)

    def _refuse_idle(self) -> None:
        if STAGES[self.stage].judges is not None and self.dtype != "float32":
            raise ConfigError(
                f"dtype is '{self.dtype}', but the networks that verify run in float32 only; leave "
                f"dtype out for stage '{self.stage}'"
            )
        idle = {
            "form": self.passes is None and self.form != "standard",
            "hide": self.passes is None and self.hide is not None,
            "replace": self.passes is None and bool(self.replace),
            "keep": self.passes != "reorganize" and self.keep is not None,
            "keep_input": self.passes != "reorganize" and self.keep_input,
        }
        for name, found in idle.items():
            if found:
                raise ConfigError(
                    f"{name} has no effect on stage '{self.stage}'; leave it out, or choose "
                    "another stage"
                )


@dataclass(frozen=True)
class Selection:
    """Keywords that fit a bundle.

    Attributes:
        hide, keep: in order.
        baked: (dim,) float32 replacement features that become part of the file.
        choices: which keywords the input ``keep`` chooses from, by its numbers; empty where kept
            keywords are fixed. No hidden keyword is among them, so that no input undoes a hiding.
    """

    hide: tuple[str, ...]
    keep: tuple[str, ...]
    baked: Mapping[str, NDArray[np.float32]]
    choices: tuple[str, ...]


def _check_choice(name: str, value: Any, allowed: Iterable[str]) -> None:
    if value not in tuple(allowed):
        raise ConfigError(f"{name} is {value!r}, but must be one of {', '.join(allowed)}")


def _feature(name: str, value: Any, dim: int) -> NDArray[np.float32]:
    array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    if array.shape != (dim,) or array.dtype.kind != "f" or not np.isfinite(array).all():
        raise ConfigError(
            f"replace[{name!r}] has shape {array.shape} and type {array.dtype}, but must be "
            f"({dim},) finite floats, such as Replacement.feature"
        )
    return array.astype(np.float32)
