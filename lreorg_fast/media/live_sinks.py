"""Where live frames go: files, addresses, pipes, a window.

A sink is opened with the size of the first frame, in the thread that writes. Whether it can be
opened at all is checked before, as far as that is possible without the frame.
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from lreorg_fast.errors import ConfigError, OutputError
from lreorg_fast.files import atomic_file, check_target
from lreorg_fast.media.live_address import Address
from lreorg_fast.media.live_encoder import CONTAINERS, LiveEncoder, LiveEncoding, fitted
from lreorg_fast.media.live_sources import DEFAULT_PIXEL_FORMAT, PIXEL_FORMATS
from lreorg_fast.media.pictures import Picture
from lreorg_fast.media.urls import is_url, scheme_of


class SinkClosed(Exception):
    """Whoever watches has closed the window: the clean end of a stream."""


@dataclass(frozen=True)
class SinkOptions:
    """How a sink is opened; an option without effect is refused by :func:`open_sink`.

    Args:
        codec, quality: see :class:`lreorg_fast.media.live_encoder.LiveEncoding`.
        container: FFmpeg's name of a muxer, in the place of what suffix or scheme say; for a pipe,
            in the place of raw frames.
        pixel_format: of raw frames, see :data:`lreorg_fast.media.live_sources.PIXEL_FORMATS`.
        overwrite: replace a file.
        timeout: seconds that an address may take for a connection or for a frame.
    """

    codec: str | None = None
    quality: float | None = None
    container: str | None = None
    pixel_format: str | None = None
    overwrite: bool = False
    timeout: float = 5.0


class Sink(Protocol):
    """Something that takes frames.

    Attributes:
        name: as it may be shown.
        returns: what broke may be there again later; else it is the end.
    """

    name: str
    returns: bool

    def open(self, size: tuple[int, int], rate: float) -> None:
        """Make ready for frames of (width, height).

        Raises:
            OutputError: it cannot be written to.
        """

    def write(self, picture: Picture, seconds: float) -> None:
        """Take a frame ``(H, W, 3)`` uint8 RGB that is shown at ``seconds``.

        Raises:
            OutputError: it is broken.
            SinkClosed: it was closed on purpose.
        """

    def close(self, broken: bool) -> None:
        """Finish, or drop what cannot be finished if ``broken``; also when it was never opened."""


def open_sink(text: str, options: SinkOptions, stdout: BinaryIO | None = None) -> Sink:
    """The sink that ``text`` names: ``window``, ``-``, an address, or a file.

    Raises:
        ConfigError: unknown scheme, container or codec, or an option without effect.
        OutputError: the file must not be written, or there is no display.
        MissingExtra: PyAV is not installed.
    """
    kind, muxer = _kind(text, options)
    _refuse_idle(kind, muxer is None, options)
    if kind == "window":
        return Window()
    if kind == "pipe" and muxer is None:
        return RawPipe(stdout or sys.stdout.buffer, options.pixel_format or DEFAULT_PIXEL_FORMAT)
    assert muxer is not None
    encoding = LiveEncoding(_known(muxer), options.codec, options.quality)
    if kind == "pipe":
        return EncodedPipe(stdout or sys.stdout.buffer, encoding)
    if kind == "address":
        return Address(text, encoding, scheme_of(text, writing=True).options, options.timeout)
    return File(Path(text), encoding, options.overwrite)


def _kind(text: str, options: SinkOptions) -> tuple[str, str | None]:
    """Kind of the sink, and its muxer (None: raw frames)."""
    if text == "window":
        return "window", None
    if text == "-":
        return "pipe", options.container
    if is_url(text):
        return "address", options.container or scheme_of(text, writing=True).muxer
    muxer = options.container or CONTAINERS.get(Path(text).suffix.lower())
    if muxer is None:
        raise ConfigError(
            f"'{text}' does not say what kind of video it is to be; end it in one of "
            f"{', '.join(CONTAINERS)}, or name a container"
        )
    return "file", muxer


def _refuse_idle(kind: str, raw: bool, options: SinkOptions) -> None:
    idle = {
        "container": kind == "window",
        "codec": raw,
        "quality": raw,
        "pixel_format": kind != "pipe" or not raw,
        "overwrite": kind != "file",
    }
    default = SinkOptions()
    for field, useless in idle.items():
        if useless and getattr(options, field) != getattr(default, field):
            raise ConfigError(f"{field} has no effect with this sink; leave it out")


def _known(muxer: str) -> str:
    from lreorg_fast.media.video import import_av

    av = import_av()
    try:
        if av.ContainerFormat(muxer).is_output:
            return muxer
    except ValueError:
        pass
    raise ConfigError(f"container is '{muxer}', which FFmpeg cannot write; matroska is one")


class RawPipe:
    """Pixels without a container, one frame after another, all of the size of the first."""

    returns = False
    name = "-"

    def __init__(self, stream: BinaryIO, pixel_format: str) -> None:
        self._stream = stream
        self._channels, self._order = PIXEL_FORMATS[pixel_format]
        self._size = (0, 0)

    def open(self, size: tuple[int, int], rate: float) -> None:
        """See :class:`Sink`."""
        self._size = size

    def write(self, picture: Picture, seconds: float) -> None:
        """See :class:`Sink`."""
        pixels = np.full((*self._size[::-1], self._channels), 255, np.uint8)
        pixels[:, :, list(self._order)] = fitted(picture, self._size)
        with _gone("-"):
            self._stream.write(pixels.tobytes())
            self._stream.flush()

    def close(self, broken: bool) -> None:
        """See :class:`Sink`."""


class EncodedPipe:
    """A container into a pipe."""

    returns = False
    name = "-"

    def __init__(self, stream: BinaryIO, encoding: LiveEncoding) -> None:
        self._stream, self._encoding = stream, encoding
        self._encoder: LiveEncoder | None = None

    def open(self, size: tuple[int, int], rate: float) -> None:
        """See :class:`Sink`."""
        with _gone("-"):
            self._encoder = LiveEncoder(_Unseekable(self._stream), self._encoding, size, rate)

    def write(self, picture: Picture, seconds: float) -> None:
        """See :class:`Sink`."""
        assert self._encoder is not None
        with _gone("-"):
            self._encoder.write(picture, seconds)

    def close(self, broken: bool) -> None:
        """See :class:`Sink`."""
        if self._encoder is not None and not broken:
            with _gone("-"):
                self._encoder.close()


class _Unseekable:
    """What a pipe is, also where it is a file: FFmpeg must not go back in it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def write(self, content: bytes) -> int:
        self._stream.write(content)
        self._stream.flush()
        return len(content)


class File:
    """A recording; the file is there when it is finished, and whole."""

    returns = False

    def __init__(self, path: Path, encoding: LiveEncoding, overwrite: bool) -> None:
        check_target(path, overwrite)
        self.name = str(path)
        self._path, self._encoding, self._overwrite = path, encoding, overwrite
        self._files = contextlib.ExitStack()
        self._encoder: LiveEncoder | None = None

    def open(self, size: tuple[int, int], rate: float) -> None:
        """See :class:`Sink`."""
        stream = self._files.enter_context(atomic_file(self._path, self._overwrite))
        with _gone(self.name):
            self._encoder = LiveEncoder(stream, self._encoding, size, rate)

    def write(self, picture: Picture, seconds: float) -> None:
        """See :class:`Sink`."""
        assert self._encoder is not None
        with _gone(self.name):
            self._encoder.write(picture, seconds)

    def close(self, broken: bool) -> None:
        """See :class:`Sink`."""
        failure: OutputError | None = OutputError("broken") if broken else None
        if self._encoder is not None and failure is None:
            try:
                with _gone(self.name):
                    self._encoder.close()
            except OutputError as error:
                failure = error
        if failure is None:
            self._files.close()
            return
        with contextlib.suppress(OutputError):  # raised again by the file, which is dropped
            self._files.__exit__(OutputError, failure, None)
        if not broken:
            raise failure


class Window:
    """A window of the desktop; closing it, or Escape, ends the stream.

    Raises:
        OutputError: there is no display, or Python was built without Tk.
    """

    returns = False
    name = "window"

    def __init__(self) -> None:
        self._tk = _tk()
        self._closed = False

    def open(self, size: tuple[int, int], rate: float) -> None:
        """See :class:`Sink`."""
        self._root = self._tk.Tk()
        self._root.title("lreorg")
        self._root.protocol("WM_DELETE_WINDOW", self._close)
        self._root.bind("<Escape>", lambda _event: self._close())
        screen = (self._root.winfo_screenwidth(), self._root.winfo_screenheight())
        scale = min(1.0, screen[0] / size[0], screen[1] / size[1])
        self._size = (max(1, int(size[0] * scale)), max(1, int(size[1] * scale)))
        self._label = self._tk.Label(self._root, borderwidth=0)
        self._label.pack()

    def write(self, picture: Picture, seconds: float) -> None:
        """See :class:`Sink`."""
        header = f"P6 {self._size[0]} {self._size[1]} 255 ".encode()
        content = header + fitted(picture, self._size).tobytes()
        self._image = self._tk.PhotoImage(master=self._root, data=content, format="PPM")
        self._label.configure(image=self._image)
        self._root.update()
        if self._closed:
            raise SinkClosed

    def close(self, broken: bool) -> None:
        """See :class:`Sink`."""
        root, self._root = getattr(self, "_root", None), None
        if root is not None:
            root.destroy()
        # In this thread: Tcl does not let another one collect them.
        self._label = self._image = None

    def _close(self) -> None:
        self._closed = True


def _tk() -> Any:
    try:
        import tkinter
    except ImportError as error:
        raise OutputError(
            "a window needs Tk, which this Python lacks; install the package python3-tk, or write "
            "to a file or an address"
        ) from error
    try:
        tkinter.Tk().destroy()
    except tkinter.TclError as error:
        raise OutputError(
            f"there is no display for a window here ({error}); write to a file or an address"
        ) from error
    return tkinter


@contextlib.contextmanager
def _gone(name: str) -> Any:
    """Names the sink in whatever goes wrong with it."""
    try:
        yield
    except OSError as error:
        reason = str(error) if isinstance(error, OutputError) else error.strerror
        raise OutputError(
            f"cannot write to '{name}': {reason}; free space, or name another sink"
        ) from error
