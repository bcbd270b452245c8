"""Stages that test_gpu_check.py runs in processes of their own."""

from __future__ import annotations

from bench.gpu.channel import Channel, Context, Unavailable, WrongResult


def has_gpu(context: Context, channel: Channel) -> None:
    channel.keep("gpu", value={"name": "NVIDIA Test 9000", "capability": [9, 0]})


def has_no_gpu(context: Context, channel: Channel) -> None:
    raise Unavailable("no GPU can be checked: PyTorch finds none.")


def passes(context: Context, channel: Channel) -> None:
    channel.keep("earlier", value=sorted(context.earlier["device"]))


def fails(context: Context, channel: Channel) -> None:
    channel.attempt("division", 30, lambda: 1 // 0)


def is_wrong(context: Context, channel: Channel) -> None:
    def check() -> None:
        raise WrongResult("error 0.3")

    channel.attempt("check", 30, check)
