"""``lreorg doctor``: what is installed, what would run, what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from lreorg_fast.cli.terminal import EXIT_FAILURES, fail, print_json, print_line, print_table

if TYPE_CHECKING:
    from lreorg_fast.doctor import Diagnosis

Row = tuple[str, str, str]


@click.command(short_help="Show what is installed, what would run, and what is missing.")
@click.option("--json", "as_json", is_flag=True, help="Print everything that was found.")
def doctor(as_json: bool) -> None:
    """Show what is installed, what would run here, and what is missing and how to get it."""
    from lreorg_fast.doctor import examine

    diagnosis = examine()
    if as_json:
        print_json(diagnosis.to_dict())
    else:
        print_table(("part", "state", "detail"), _rows(diagnosis))
        print_line("nothing that is required is broken" if diagnosis.healthy else "not healthy")
    for problem in diagnosis.problems:
        fail(problem)
    if not diagnosis.healthy:
        raise click.exceptions.Exit(EXIT_FAILURES)


def _rows(found: Diagnosis) -> Iterator[Row]:
    """One line per part; what is broken is told by the diagnosis's sentences."""
    yield "lreorg_fast", found.version, f"{found.python}, {found.system}"
    cpu = found.cpu
    features = "unknown instruction sets" if cpu["features"] is None else " ".join(cpu["features"])
    cores = f"{cpu['usable_cores']} of {cpu['cores']} cores usable"
    yield "CPU", cpu["architecture"], f"{cpu['model']}; {cores}; {features}"
    if found.torch is not None:
        yield "torch", found.torch["version"], f"{found.torch['threads']} threads"
        for device, name in found.torch["devices"].items():
            yield f"device {device}", "ok", name
    if found.native is not None:
        kernels = f"CPU kernels, fastest first: {', '.join(found.native['cpu_kernels'])}"
        yield "native module", "ok", f"{found.native['compiler']}; {kernels}"
        cuda = found.native["cuda"]
        reason = cuda["reason"] or f"for {found.native['cuda_architectures']}"
        yield "native CUDA", "built" if cuda["built"] else "not built", reason
    for name, state in (found.backends or {}).items():
        available = state is True
        yield f"backend {name}", "ok" if available else "no", "" if available else str(state)
    if found.bundle is not None:
        bundle = found.bundle
        size = f"{bundle['files']} files, {bundle['bytes'] / 2**20:.1f} MiB, every SHA-256 checked"
        yield "demo bundle", "ok", f"{bundle['domain']}, {bundle['resolution']} px; {size}"
    for package in found.optional:
        detail = package["purpose"]
        if package["version"] is None:
            detail += f"; get it with: {package['install']}"
        yield f"optional {package['name']}", package["version"] or "missing", detail
