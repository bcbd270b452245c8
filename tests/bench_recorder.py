"""A stage's messages, kept as the command would keep them."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

from bench.gpu import runner
from bench.gpu.channel import Channel


class Recorder:
    """A channel whose messages are kept as a stage's outcome would keep them."""

    def __init__(self, failed: Mapping[str, str] | None = None) -> None:
        self._stream = io.StringIO()
        self.channel = Channel(self._stream, failed)

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._stream.getvalue().splitlines()]

    @property
    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for message in self.messages:
            if "keep" in message:
                runner._put(data, message["keep"], message["value"])
        return data

    @property
    def failures(self) -> dict[str, str]:
        return {m["fail"]: m["reason"] for m in self.messages if "fail" in m}
