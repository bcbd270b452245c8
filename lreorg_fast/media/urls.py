"""Addresses of streams: which schemes are known, and what FFmpeg may do for each.

A playlist or a redirect is content from somebody else. It can name further addresses, so FFmpeg is
told which protocols it may use; ``file`` is in no list, so nothing local is ever read through one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from lreorg_fast.errors import ConfigError

_WEB = "http,https,tcp,tls,crypto,httpproxy"


@dataclass(frozen=True)
class Scheme:
    """One kind of address.

    Attributes:
        protocols: FFmpeg's protocols that may be used when reading; None: it is for writing only.
        muxer: FFmpeg's container when writing; None: it is for reading only.
        options: for reading and writing.
    """

    protocols: str | None
    muxer: str | None
    options: Mapping[str, str] = field(default_factory=dict)


_INTERLEAVED = {"rtsp_transport": "tcp"}  # over UDP a lost packet is a broken picture
SCHEMES: dict[str, Scheme] = {
    "rtsp": Scheme("rtsp,rtp,udp,tcp", "rtsp", _INTERLEAVED),
    "rtsps": Scheme("rtsps,rtp,udp,tcp,tls", "rtsp", _INTERLEAVED),
    "rtmp": Scheme("rtmp,tcp", "flv"),
    "rtmps": Scheme("rtmps,tcp,tls", "flv"),
    "http": Scheme(_WEB, "mpegts"),
    "https": Scheme(_WEB, "mpegts"),
    "udp": Scheme("udp", "mpegts"),
    "tcp": Scheme("tcp", "mpegts"),
    "srt": Scheme("srt", "mpegts"),
    "rtp": Scheme(None, "rtp_mpegts"),
}
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def is_url(text: str) -> bool:
    """Whether ``text`` is an address and not the name of a file."""
    return _URL.match(text) is not None


def scheme_of(url: str, writing: bool) -> Scheme:
    """The scheme of an address.

    Raises:
        ConfigError: it is not known, or not for this direction.
    """
    name = url.split("://", 1)[0].lower()
    known = {
        key: scheme
        for key, scheme in SCHEMES.items()
        if (scheme.muxer if writing else scheme.protocols) is not None
    }
    if name not in known:
        raise ConfigError(
            f"the scheme '{name}' cannot be {'written to' if writing else 'read from'} here; "
            f"choose one of {', '.join(known)}, or name a file"
        )
    return known[name]


def without_secrets(url: str) -> str:
    """``url`` as it may be shown: without name, password and query."""
    try:
        parts = urlsplit(url)
        port = "" if parts.port is None else f":{parts.port}"
    except ValueError:
        return url.split("://", 1)[0] + "://..."
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"
