"""The networks of a pipeline on onnxruntime: what exported files do, behind the same interfaces.

The draws, the ledger and every check stay where they are, in the pipeline: it runs the stages
``encoder``, ``generator`` and the passes of CDFNet as it runs its own networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lreorg_fast.cdfnet import Engine, Plan
from lreorg_fast.cdfnet.backends import Run
from lreorg_fast.cdfnet.backends.program import constants
from lreorg_fast.cdfnet.folding import KeywordFold
from lreorg_fast.errors import ConfigError, MissingExtra
from lreorg_fast.export.onnx_cdfnet import Network
from lreorg_fast.export.onnx_options import OnnxOptions
from lreorg_fast.export.onnx_stages import Networks, plan_model, stage_model
from lreorg_fast.models.e4e import E4EConfig
from lreorg_fast.models.stylegan2 import StyleGAN2Config

PRECISIONS = ("auto", "float32", "float16")
# How matrices of the reorganization are stored; onnxruntime computes in float32 with each.
DTYPES = ("bfloat16", "float16", "float32")
_ERRORS_ONLY = 3  # onnxruntime's own messages
_PROVIDER = "CPUExecutionProvider"


def onnxruntime_package() -> Any:
    """The ``onnxruntime`` package.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra(
            "runtime 'onnx' needs onnxruntime: pip install 'lreorg_fast[export]'"
        ) from error
    return onnxruntime


class Session:
    """A model in onnxruntime on the CPU, with as many threads as torch had when it was made."""

    def __init__(self, model: Any) -> None:
        package = onnxruntime_package()
        options = package.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        self._session = package.InferenceSession(
            model.SerializeToString(), options, providers=[_PROVIDER]
        )
        self._inputs = [entry.name for entry in self._session.get_inputs()]

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """Outputs, float32, of inputs in the model's order."""
        given = [x.detach().float().contiguous().numpy() for x in inputs]
        made = self._session.run(None, dict(zip(self._inputs, given, strict=True)))
        return [torch.from_numpy(array) for array in made]


class OnnxEncoder:
    """As :class:`~lreorg_fast.models.e4e.E4EEncoder`: pictures to latents."""

    def __init__(self, networks: Networks, dtype: str) -> None:
        self.config: E4EConfig = networks.encoder.config
        self._session = Session(stage_model(networks, OnnxOptions(stage="encoder", dtype=dtype)))

    def __call__(self, x: Tensor) -> Tensor:
        return self.forward(x)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, 3, S, S)`` -> ``(N, num_ws, style_dim)`` float32."""
        self.config.check(x)
        return self._session(x)[0]


class OnnxGenerator:
    """As :class:`~lreorg_fast.models.stylegan2.StyleGAN2Generator`: latents to pictures."""

    def __init__(self, networks: Networks, dtype: str) -> None:
        self.config: StyleGAN2Config = networks.generator.config
        self._session = Session(stage_model(networks, OnnxOptions(stage="generator", dtype=dtype)))

    @property
    def num_ws(self) -> int:
        return self.config.num_ws

    @property
    def resolution(self) -> int:
        return self.config.resolution

    def synthesis(self, w: Tensor) -> Tensor:
        """``(N, w_dim)`` or ``(N, num_ws, w_dim)`` -> ``(N, 3, H, W)`` float32, constant noise."""
        return self._session(self.config.rows(w))[0]


class OnnxRunner:
    """CDFNet's passes, a session for each plan; see ``cdfnet/backends/base.py: Runner``."""

    device = torch.device("cpu")
    compute_dtype = torch.float32

    def __init__(
        self, network: Network, fold: KeywordFold, keywords: Mapping[str, Tensor], dtype: str
    ) -> None:
        self._network = network
        self._fold = fold
        self._keywords = dict(keywords)
        self._dtype = dtype

    def prepare(self, plan: Plan) -> Run:
        table = constants(self._fold, {name: self._keywords[name] for name in plan.keywords})
        session = Session(plan_model(self._network, table, plan, self._dtype))

        def run(inputs: Sequence[Tensor]) -> list[Tensor]:
            return [result[:, 0] for result in session(*(rows[:, None] for rows in inputs))]

        return run

    def build_info(self) -> dict[str, Any]:
        package = onnxruntime_package()
        return {
            "device": "cpu",
            "runtime": f"onnxruntime {package.__version__}",
            "provider": _PROVIDER,
            "activations": "float32",
            "threads": torch.get_num_threads(),
        }

    def with_keywords(self, keywords: Mapping[str, Tensor]) -> OnnxRunner:
        return OnnxRunner(self._network, self._fold, keywords, self._dtype)


def onnx_dtype(precision: str) -> str:
    """The type of maps in encoder and generator that ``precision`` means in onnxruntime.

    Raises:
        ConfigError: for another name.
    """
    if precision not in PRECISIONS:
        raise ConfigError(
            f"precision is {precision!r}, but with runtime 'onnx' must be one of "
            f"{', '.join(PRECISIONS)}: onnxruntime has no bfloat16 convolutions on CPUs"
        )
    return "float32" if precision == "auto" else precision


def onnx_engine(networks: Networks, features: Mapping[str, Tensor], dtype: str) -> Engine:
    """An engine whose passes run in onnxruntime; ``features`` are those of its keywords.

    Raises:
        ConfigError: another dtype than :data:`DTYPES`.
    """
    if dtype not in DTYPES:
        raise ConfigError(
            f"dtype is {dtype!r}, but with runtime 'onnx' must be one of {', '.join(DTYPES)}"
        )
    runner = OnnxRunner(networks.network, networks.folded.keywords, features, dtype)
    return Engine("onnx", dtype, networks.dim, runner, features, "raise")
