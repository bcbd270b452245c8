"""``lf.compile``: a CDFNet made ready to run fast, behind one interface for every backend."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

import lreorg_fast
from lreorg_fast.cdfnet.backends import Precision, ReportsFaults, Run, Runner, build
from lreorg_fast.cdfnet.backends import available_backends as available_backends
from lreorg_fast.cdfnet.reference import CDFNet
from lreorg_fast.cdfnet.schedule import Direction, Plan, plan, single
from lreorg_fast.errors import ConfigError, PrivacyError

DTYPES = ("bfloat16", "float16", "float32", "float64", "int8")
ACTIVATIONS = ("auto", "float32")
FAULTS = ("raise", "nan")


def compile(
    net: CDFNet,
    keywords: Mapping[str, Tensor],
    backend: str = "auto",
    dtype: str = "bfloat16",
    activations: str = "auto",
    faults: str = "raise",
) -> Engine:
    """Fold, round and pack a network for one backend. The network is copied, not kept.

    Args:
        net: the reference network.
        keywords: features by name, each (cond_dim,), finite; any names.
        backend: "auto" (the fastest that runs here; the choice is logged), or a name from
            :func:`available_backends`.
        dtype: how weights are stored: "bfloat16", "float16" (GPUs and "reference"), "float32",
            "float64" ("reference"), or "int8" (one scale per output row; "cpu"). Streams and sums
            are float32, with "float64" float64.
        activations: what products read. "auto": copies rounded to bfloat16 or int8 where weights
            are and the machine multiplies such pairs faster; the streams themselves stay
            float32. "float32": never rounded, which is slower, but :meth:`Engine.fuse` then
            inverts :meth:`Engine.disentangle` to float32's own rounding. docs/engine.md has the
            errors of both.
        faults: what becomes of results that are not finite. "raise": the call raises, and on a GPU
            therefore waits for the device once, at its end. "nan": nothing waits; every result of
            such a call is NaN as a whole, and so is every result of latents that are not finite.
            It is what CUDA graphs and pipelines of several streams need; who uses it must look
            before anything is released.

    Raises:
        ConfigError: a keyword has the wrong width, or the dtype or backend is not offered.
        BackendUnavailable: the named backend cannot run here; the message says why.
    """
    if not isinstance(net, CDFNet):
        raise ConfigError(f"net is a {type(net).__name__}; pass a lreorg_fast.CDFNet.")
    _check_choice("dtype", dtype, DTYPES)
    _check_choice("activations", activations, ACTIVATIONS)
    _check_choice("faults", faults, FAULTS)
    features = _checked_keywords(keywords, net.config.cond_dim)
    precision = Precision(dtype, exact=activations == "float32")
    name, runner = build(backend, net, features, precision)
    return Engine(name, dtype, net.config.dim, runner, features, faults)


class Engine:
    """A compiled network. Made by :func:`compile`; safe to share between threads.

    Latents are (..., dim) tensors of any float dtype on the engine's device; results have the
    shape and dtype of the latent and carry no gradient. Errors of every method: ConfigError for
    unknown keywords, wrong widths, devices, dtypes or values that are not finite; PrivacyError when
    a result is not finite, so that nothing half-computed is released. With ``faults="nan"`` values
    that are not finite make results NaN instead, see :func:`compile`.

    Attributes:
        backend: the name of what runs, never "auto"; where that depends on the number of tokens,
            what runs one face, and build_info()["by_tokens"] has the others.
        dtype: how weights are stored.
        faults: "raise" or "nan".
        keywords: the names that it knows.
    """

    def __init__(
        self,
        backend: str,
        dtype: str,
        dim: int,
        runner: Runner,
        features: Mapping[str, Tensor],
        faults: str,
    ) -> None:
        self.backend = backend
        self.dtype = dtype
        self.faults = faults
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
        f, r = self._single("disentangle", keyword, {"s": s}, like=s)
        return f, r

    def fuse(self, f: Tensor, r: Tensor, keyword: str) -> tuple[Tensor, Tensor]:
        """(lost information, latent) of r (..., dim) and f, which broadcasts to r; Eq. 3, 4."""
        self._check_latent("r", r)
        loss, s = self._single("fuse", keyword, {"f": f, "r": r}, like=r)
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
        inputs = {"s": s} | {f"replace[{name!r}]": f for name, f in replace.items()}
        key = (tuple(replace), tuple(keep))
        if key not in self._prepared:
            self._prepare(key, plan(hide=replace, keep=keep))
        (result,) = self._run(key, inputs, like=s)
        return result

    def with_keywords(self, keywords: Mapping[str, Tensor]) -> Engine:
        """A new engine that also knows these keywords (or new features of known ones).

        The packed weights are shared; only the keywords' constants are made again.
        """
        cond_dim = next(iter(self._features.values())).shape[0]
        features = self._features | _checked_keywords(keywords, cond_dim)
        runner = self._runner.with_keywords(features)
        return Engine(self.backend, self.dtype, self._dim, runner, features, self.faults)

    def _single(
        self, direction: Direction, keyword: str, inputs: Mapping[str, Tensor], like: Tensor
    ) -> list[Tensor]:
        self._check_keywords([keyword])
        key = (direction, keyword)
        if key not in self._prepared:
            self._prepare(key, single(direction, keyword))
        return self._run(key, inputs, like)

    def _prepare(self, key: Any, what: Plan) -> None:
        if self._capturing():
            raise ConfigError(
                "this call is the first of its kind and prepares what it needs, which a CUDA graph "
                "cannot record; make it once before the capture."
            )
        # Two threads may both do this; they store equal things.
        self._prepared[key] = (what, self._runner.prepare(what))

    def _run(self, key: Any, inputs: Mapping[str, Tensor], like: Tensor) -> list[Tensor]:
        """Run what was prepared; every input is checked and broadcast to ``like``."""
        if self.faults == "raise" and self._capturing():
            raise ConfigError(
                "faults='raise' waits for the device, which a CUDA graph cannot record; compile "
                "the engine with faults='nan'."
            )
        _, run = self._prepared[key]
        dtype = self._runner.compute_dtype
        rows = [
            self._broadcast(name, x, like).detach().to(dtype).reshape(-1, self._dim)
            for name, x in inputs.items()
        ]
        # On a CPU looking costs no waiting, and its kernels may round a NaN to a number.
        seen = _faults(inputs.values()) if self._runner.device.type == "cpu" else None
        if seen is not None and self.faults == "raise":
            self._refuse_inputs(inputs, seen)
        results = [result.reshape(like.shape).to(like.dtype) for result in run(rows)]
        return self._released(inputs, results, seen)

    def _released(
        self, inputs: Mapping[str, Tensor], results: list[Tensor], seen: Tensor | None
    ) -> list[Tensor]:
        """The results if all are finite; else an error, or NaN as a whole."""
        found = _faults(results)
        if self.faults == "nan":
            fault = found.sum() if seen is None else found.sum() + seen.sum()
            return [result + fault.to(result.dtype) for result in results]
        if not any(map(math.isnan, found.tolist())):
            return results
        reason = self._runner.fault() if isinstance(self._runner, ReportsFaults) else None
        if reason is not None:
            raise PrivacyError(f"{reason}; the result is withheld.")
        if seen is None:
            self._refuse_inputs(inputs, _faults(inputs.values()))
        raise PrivacyError(
            "the reorganized latent is not finite, so it is withheld; the latent is far "
            "outside of what the network was trained on."
        )

    def _refuse_inputs(self, inputs: Mapping[str, Tensor], seen: Tensor) -> None:
        for name, fault in zip(inputs, seen.tolist(), strict=True):
            if math.isnan(fault):
                raise ConfigError(f"{name} holds values that are not finite; refuse such a face.")

    def _capturing(self) -> bool:
        return self._runner.device.type == "cuda" and torch.cuda.is_current_stream_capturing()

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

    def _broadcast(self, name: str, x: Tensor, to: Tensor) -> Tensor:
        self._check_latent(name, x)
        try:
            return x.broadcast_to(to.shape)
        except RuntimeError:
            raise ConfigError(
                f"{name} has shape {tuple(x.shape)}, which does not broadcast to "
                f"{tuple(to.shape)}; give one row, or as many as the latent has."
            ) from None


def _faults(tensors: Iterable[Tensor]) -> Tensor:
    """One number per tensor, (n,) float32: 0 where all of its values are finite, else NaN.

    A finite number minus itself is 0; infinity and NaN give NaN, and a sum keeps it. It stays on
    the device, and reading it is what waits.
    """
    return torch.stack([torch.sum(x - x, dtype=torch.float32) for x in map(Tensor.detach, tensors)])


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
