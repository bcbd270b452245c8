"""Methods that are finished, kept beside the answers so that a resumed run does not repeat them.

An attack trains a network per method; what it found is worth keeping. As the answers, the files
are private (their samples are pictures of people) and not trusted when they are read.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lreorg_fast.errors import ConfigError, LReorgError, OutputError
from lreorg_fast.evaluation.figures import Floats
from lreorg_fast.evaluation.measured import MethodResult
from lreorg_fast.files import atomic_file, parse_json, read_bounded
from lreorg_fast.log import once
from lreorg_fast.media.pictures import Picture

_MOST_BYTES = 64 * 2**20
_SUFFIX = ".finished.json"


@dataclass(frozen=True, eq=False)
class Finished:
    """One method.

    Attributes:
        result: its figures.
        samples: its outputs for the contact sheet; None where nothing was released.
        features: (n, D) embeddings of the outputs that the clusters are drawn from.
    """

    result: MethodResult
    samples: Sequence[Picture | None]
    features: Floats


class FinishedMethods:
    """What is kept in a folder.

    Args:
        folder: a private one, of :class:`lreorg_fast.evaluation.answers.Answers`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> Finished | None:
        """What was kept under ``key`` (hex digits); None if there is nothing or it is damaged."""
        path = self._path(key)
        try:
            return _read(parse_json(read_bounded(path, _MOST_BYTES)))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, LReorgError):
            once(f"damaged {path}", "a finished method in the cache is damaged; it is done again")
            return None

    def put(self, key: str, finished: Finished) -> None:
        """Keep it.

        Raises:
            OutputError: it cannot be written.
        """
        content = json.dumps(_written(finished), allow_nan=False)
        with atomic_file(self._path(key), overwrite=True, private=True) as stream:
            stream.write(content.encode())

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}{_SUFFIX}"


def remove_finished(folder: Path) -> None:
    """Delete what is kept in a folder.

    Raises:
        OutputError: it cannot be deleted.
    """
    try:
        for path in folder.glob(f"*{_SUFFIX}"):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"the cache '{folder}' cannot be removed: {error.strerror or error}; it holds face "
            "data, remove it by hand"
        ) from error


def _written(finished: Finished) -> dict[str, Any]:
    return {
        "result": finished.result.to_dict(),
        "samples": [None if p is None else _array(p, "u1") for p in finished.samples],
        "features": _array(finished.features, "<f4"),
    }


def _read(entries: Any) -> Finished:
    result = MethodResult.from_dict(entries["result"])
    samples = [None if e is None else _picture(_values(e, "u1")) for e in entries["samples"]]
    features = _values(entries["features"], "<f4").astype(np.float64)
    if features.ndim != 2:
        raise ConfigError("features have two axes")
    return Finished(result, samples, features)


def _array(values: NDArray[Any], kind: str) -> dict[str, Any]:
    content = np.ascontiguousarray(values, dtype=kind).tobytes()
    return {"shape": list(values.shape), "data": base64.b64encode(content).decode("ascii")}


def _values(entries: Any, kind: str) -> NDArray[Any]:
    content = base64.b64decode(entries["data"], validate=True)
    return np.frombuffer(content, dtype=kind).reshape([int(n) for n in entries["shape"]])


def _picture(values: NDArray[Any]) -> Picture:
    if values.ndim != 3 or values.shape[2] != 3 or values.size == 0:
        raise ConfigError("a picture has the shape (H, W, 3)")
    return np.array(values)
