"""``lf.compile``: a CDFNet made ready to run fast, behind one interface for every backend."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

import lreorg_fast
from lreorg_fast import log
from lreorg_fast.cdfnet.backends import BACKENDS, BackendInfo, Precision, Run, Runner
from lreorg_fast.cdfnet.reference import CDFNet
from lreorg_fast.cdfnet.schedule import Direction, Plan, plan, single
from lreorg_fast.errors import BackendUnavailable, ConfigError, PrivacyError

DTYPES = ("bfloat16", "float32", "float64", "int8")
ACTIVATIONS = ("auto", "float32")


def available_backends() -> dict[str, bool | str]:
    """Backends by name: True where one can run here, else the reason why it cannot."""
    return {info.name: info.unavailable() or True for info in BACKENDS}


def compile(
    net: CDFNet,
    keywords: Mapping[str, Tensor],
    backend: str = "auto",
    dtype: str = "bfloat16",
    activations: str = "auto",
) -> Engine:
    """Fold, round and pack a network for one backend. The network is copied, not kept.

    Args:
        net: the reference network.
        keywords: features by name, each (cond_dim,), finite; any names.
        backend: "auto" (the fastest that runs here; the choice is logged), or a name from
            :func:`available_backends`.
        dtype: how weights are stored: "bfloat16", "float32", "float64", or "int8" (one scale per
            output row; "cpu" only). Streams and sums are float32, with "float64" float64.
        activations: what products read. "auto": copies rounded to bfloat16 or int8 where weights
            are and the machine multiplies such pairs faster; the streams themselves stay
            float32. "float32": never rounded, which is slower, but :meth:`Engine.fuse` then
            inverts :meth:`Engine.disentangle` to float32's own rounding. docs/engine.md has the
            errors of both.

    Raises:
        ConfigError: a keyword has the wrong width, or the dtype or backend is not offered.
        BackendUnavailable: the named backend cannot run here; the message says why.
    """
    if not isinstance(net, CDFNet):
        raise ConfigError(f"net is a {type(net).__name__}; pass a lreorg_fast.CDFNet.")
    _check_choice("dtype", dtype, DTYPES)
    _check_choice("activations", activations, ACTIVATIONS)
    features = _checked_keywords(keywords, net.config.cond_dim)
    device = next(net.parameters()).device.type
    info = _automatic(dtype, device) if backend == "auto" else _named(backend, dtype)
    assert info.build is not None  # the registry's promise: no kernels means unavailable
    runner = info.build(net, features, Precision(dtype, exact=activations == "float32"))
    return Engine(info.name, dtype, net.config.dim, runner, features)


class Engine:
    """A compiled network. Made by :func:`compile`; safe to share between threads.

    Latents are (..., dim) tensors of any float dtype on the engine's device; results have the
    shape and dtype of the latent and carry no gradient. Errors of every method: ConfigError for
    unknown keywords, wrong widths, devices, dtypes or values that are not finite; PrivacyError when
    a result is not finite, so that nothing half-computed is released.

    Attributes:
        backend: the name of what runs, never "auto".
        dtype: how weights are stored.
        keywords: the names that it knows.
    """

    def __init__(
        self, backend: str, dtype: str, dim: int, runner: Runner, features: Mapping[str, Tensor]
    ) -> None:
        self.backend = backend
        self.dtype = dtype
        self.keywords = tuple(features)
        self._dim = dim
        self._runner = runner
        self._features = dict(features)
        self._prepared: dict[Any, tuple[Plan, Run]] = {}

    def build_info(self) -> dict[str, Any]:
        """What really runs: backend, dtype, version, keywords, and the backend's own facts."""
        return {
            "backend": self.backend,
            "dtype": self.dtype,
            "version": lreorg_fast.__version__,
            "keywords": list(self.keywords),
            **self._runner.build_info(),
        }

    def disentangle(self, s: Tensor, keyword: str) -> tuple[Tensor, Tensor]:
        """(key feature f, residual r) of latent s (..., dim), Eq. 1 and 2; both like s."""
        self._check_latent("s", s)
        f, r = self._single("disentangle", keyword, [s], like=s)
        return f, r

    def fuse(self, f: Tensor, r: Tensor, keyword: str) -> tuple[Tensor, Tensor]:
        """(lost information, latent) of r (..., dim) and f, which broadcasts to r; Eq. 3, 4."""
        self._check_latent("r", r)
        loss, s = self._single("fuse", keyword, [self._broadcast("f", f, r), r], like=r)
        return loss, s

    def reorganize(self, s: Tensor, replace: Mapping[str, Tensor], keep: Sequence[str]) -> Tensor:
        """Anonymize, then recover, in one call of the backend.

        Args:
            s: original latent (..., dim).
            replace: new key features by hidden keyword, in the order of hiding; each broadcasts
                to s.
            keep: keywords to recover from s, in order.

        Returns:
            The reorganized latent, like s.
        """
        self._check_latent("s", s)
        self._check_keywords([*replace, *keep])
        inputs = [self._broadcast(f"replace[{name!r}]", f, s) for name, f in replace.items()]
        key = (tuple(replace), tuple(keep))
        if key not in self._prepared:
            self._prepare(key, plan(hide=replace, keep=keep))
        (result,) = self._run(key, [s, *inputs], like=s)
        return result

    def with_keywords(self, keywords: Mapping[str, Tensor]) -> Engine:
        """A new engine that also knows these keywords (or new features of known ones).

        The packed weights are shared; only the keywords' constants are made again.
        """
        cond_dim = next(iter(self._features.values())).shape[0]
        features = self._features | _checked_keywords(keywords, cond_dim)
        runner = self._runner.with_keywords(features)
        return Engine(self.backend, self.dtype, self._dim, runner, features)

    def _single(
        self, direction: Direction, keyword: str, inputs: Sequence[Tensor], like: Tensor
    ) -> list[Tensor]:
        self._check_keywords([keyword])
        key = (direction, keyword)
        if key not in self._prepared:
            self._prepare(key, single(direction, keyword))
        return self._run(key, inputs, like)

    def _prepare(self, key: Any, what: Plan) -> None:
        # Two threads may both do this; they store equal things.
        self._prepared[key] = (what, self._runner.prepare(what))

    def _run(self, key: Any, inputs: Sequence[Tensor], like: Tensor) -> list[Tensor]:
        _, run = self._prepared[key]
        dtype = self._runner.compute_dtype
        results = run([x.detach().to(dtype).reshape(-1, self._dim) for x in inputs])
        for result in results:
            if not torch.isfinite(result).all():
                raise PrivacyError(
                    "the reorganized latent is not finite, so it is withheld; the latent is far "
                    "outside of what the network was trained on."
                )
        return [result.reshape(like.shape).to(like.dtype) for result in results]

    def _check_keywords(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self._features:
                raise ConfigError(
                    f"unknown keyword {name!r}; this engine knows {', '.join(self.keywords)}; "
                    "add others with Engine.with_keywords."
                )

    def _check_latent(self, name: str, x: Tensor) -> None:
        if not isinstance(x, Tensor):
            raise ConfigError(f"{name} is a {type(x).__name__}; pass a torch.Tensor.")
        if x.ndim == 0 or x.shape[-1] != self._dim:
            raise ConfigError(
                f"{name} has shape {tuple(x.shape)}; its last dimension must be dim = {self._dim}."
            )
        if not x.is_floating_point():
            raise ConfigError(f"{name} is {x.dtype}; pass a float tensor.")
        if x.device != self._runner.device:
            raise ConfigError(
                f"{name} is on {x.device} but backend {self.backend!r} runs on "
                f"{self._runner.device}; move it with .to({str(self._runner.device)!r})."
            )
        if not torch.isfinite(x).all():
            raise ConfigError(f"{name} holds values that are not finite; refuse such a face.")

    def _broadcast(self, name: str, x: Tensor, to: Tensor) -> Tensor:
        self._check_latent(name, x)
        try:
            return x.broadcast_to(to.shape)
        except RuntimeError:
            raise ConfigError(
                f"{name} has shape {tuple(x.shape)}, which does not broadcast to "
                f"{tuple(to.shape)}; give one row, or as many as the latent has."
            ) from None


def _named(name: str, dtype: str) -> BackendInfo:
    known = {info.name: info for info in BACKENDS}
    if name not in known:
        raise ConfigError(f"backend is {name!r}; allowed are auto, {', '.join(known)}.")
    info = known[name]
    reason = info.unavailable()
    if reason is not None:
        raise BackendUnavailable(
            f"backend {name!r} cannot run: {reason}; use backend='auto' or another one."
        )
    if dtype not in info.dtypes:
        raise ConfigError(
            f"backend {name!r} does not offer dtype {dtype!r}; it offers "
            f"{', '.join(info.dtypes)}; {dtype} is offered by "
            f"{', '.join(other.name for other in BACKENDS if dtype in other.dtypes)}."
        )
    return info


def _automatic(dtype: str, device: str) -> BackendInfo:
    passed_over: list[str] = []
    for info in BACKENDS:
        reason = info.unavailable()
        if reason is None and dtype not in info.dtypes:
            reason = f"no {dtype}"
        if reason is None and info.devices is not None and device not in info.devices:
            reason = f"the network is on {device}"
        if reason is None:
            why = "; ".join(passed_over) or "it is the first choice"
            message = f"backend 'auto' ({dtype}) chose {info.name!r}: {why}"
            log.once(f"backend {info.name} {dtype} {device}", message, logging.INFO)
            return info
        passed_over.append(f"{info.name}: {reason}")
    raise BackendUnavailable(f"no backend can run: {'; '.join(passed_over)}.")


def _check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name} is {value!r}; allowed are {', '.join(allowed)}.")


def _checked_keywords(keywords: Mapping[str, Tensor], cond_dim: int) -> dict[str, Tensor]:
    if not keywords:
        raise ConfigError("keywords is empty; pass at least one name with its feature.")
    for name, k in keywords.items():
        if not isinstance(k, Tensor) or not k.is_floating_point() or k.shape != (cond_dim,):
            shape = tuple(k.shape) if isinstance(k, Tensor) else type(k).__name__
            raise ConfigError(
                f"keyword {name!r} is {shape}; it must be a float tensor ({cond_dim},), "
                "the network's cond_dim."
            )
        if not torch.isfinite(k).all():
            raise ConfigError(f"keyword {name!r} holds values that are not finite.")
    return {name: k.detach().clone() for name, k in keywords.items()}
