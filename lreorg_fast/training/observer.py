"""What a training run leaves to look at: rows of losses, validations, contact sheets, a report."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lreorg_fast.cdfnet import CDFNet
from lreorg_fast.errors import MissingExtra
from lreorg_fast.files import atomic_file
from lreorg_fast.media import write_image
from lreorg_fast.media.contact_sheet import contact_sheet
from lreorg_fast.media.pictures import Picture
from lreorg_fast.models.pixels import to_pictures
from lreorg_fast.training.config import ReportConfig
from lreorg_fast.training.keyword_swap import Judges
from lreorg_fast.training.leakage import SwapFigures, swap_figures
from lreorg_fast.training.run import append_line, format_seconds
from lreorg_fast.training.trainer import Step

_COLUMNS = ("step", "kind", "term", "value")
_SHEET_PEOPLE = 8
_HELD_OUT = 2**40  # added to the seed, so that nobody is trained on with these draws


class Observer:
    """Follows a run in ``folder``; called after every step that changed the network.

    Args:
        config: how often what is written.
        folder: of the run.
        judges: of the run; validated with, on latents of their own.
        features: of the keywords that are trained.
        contents: those of them with contents.
        net: on whose device everything is.
    """

    def __init__(
        self,
        config: ReportConfig,
        folder: Path,
        judges: Judges,
        features: Mapping[str, Tensor],
        contents: Sequence[str],
        net: CDFNet,
    ) -> None:
        self.config = config
        self.folder = folder
        self.judges = judges
        self.features = features
        self.contents = contents
        self.last: Step | None = None
        self._events = _event_writer(folder) if config.tensorboard else None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch.initial_seed() % _HELD_OUT + _HELD_OUT)
            self.held_out = judges.latents(config.validation_people).to(next(net.parameters()))

    def resume(self, position: int) -> None:
        """Forget rows of steps that were lost with an interruption."""
        _keep_lines(self.folder / "log.csv", lambda line: _csv_step(line) <= position)
        _keep_lines(self.folder / "validation.jsonl", lambda line: _json_step(line) <= position)
        if not (self.folder / "log.csv").exists():
            append_line(self.folder / "log.csv", ",".join(_COLUMNS))

    def __call__(self, step: Step, net: CDFNet) -> None:
        self.last = step
        if step.position % self.config.log_every == 0:
            self._log(step)
        if _due(step.position, self.config.validate_every):
            self.validate(step.position, net)
        if _due(step.position, self.config.sheet_every):
            self.sheet(step.position, net)

    def finish(self, position: int, net: CDFNet) -> None:
        """The last validation, the last sheet, and the report."""
        figures = self.validate(position, net)
        self.sheet(position, net)
        with atomic_file(self.folder / "report.md", overwrite=True) as stream:
            stream.write(self._report(position, figures).encode())

    # ---- the parts

    def _log(self, step: Step) -> None:
        rows = {
            **step.terms,
            "total": sum(step.terms.values()),
            "learning_rate": step.learning_rate,
            "gradient_norm": step.gradient_norm,
            "seconds": round(step.seconds, 1),
        }
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        for term, value in rows.items():
            writer.writerow((step.position, step.kind, term, f"{value:.6g}"))
        append_line(self.folder / "log.csv", text.getvalue().rstrip("\n"))
        if self._events is not None:
            for term, value in rows.items():
                self._events.add_scalar(f"{step.kind}/{term}", value, step.position)

    def validate(self, position: int, net: CDFNet) -> dict[str, SwapFigures]:
        """Figures of every keyword on the held-out latents, added to validation.jsonl."""
        figures = swap_figures(net, self.judges, self.features, self.contents, self.held_out)
        data = {name: dataclasses.asdict(figure) for name, figure in figures.items()}
        line = {"step": position, "people": len(self.held_out), "swaps": data}
        # One line a step, also where the last step is validated twice.
        _keep_lines(self.folder / "validation.jsonl", lambda old: _json_step(old) != position)
        append_line(self.folder / "validation.jsonl", json.dumps(line))
        if self._events is not None:
            for name, figure in figures.items():
                self._events.add_scalar(f"similarity/{name}", figure.similarity, position)
                if figure.follows is not None:
                    self._events.add_scalar(f"follows/{name}", figure.follows, position)
        return figures

    @torch.no_grad()
    def sheet(self, position: int, net: CDFNet) -> None:
        """Faces, their donors (the next face), and each key feature swapped."""
        s = self.held_out[:_SHEET_PEOPLE]
        rows: dict[str, list[Picture]] = {"face": self._pictures(s)}
        rows["donor"] = rows["face"][1:] + rows["face"][:1]
        for name, k in self.features.items():
            f, r = net.disentangle(s, k)
            rows[f"{name} swapped"] = self._pictures(net.fuse(f.roll(-1, dims=0), r, k)[1])
        folder = self.folder / "sheets"
        folder.mkdir(exist_ok=True)
        write_image(folder / f"step-{position:07d}.png", contact_sheet(rows), overwrite=True)

    def _pictures(self, s: Tensor) -> list[Picture]:
        return [to_pictures(self.judges.picture(one))[0] for one in s.split(1)]

    def _report(self, position: int, figures: Mapping[str, SwapFigures]) -> str:
        seconds = 0.0 if self.last is None else self.last.seconds
        names = list(self.contents)
        lines = [
            "# Training report",
            "",
            f"{position} steps in {format_seconds(seconds)}. Each key feature swapped between "
            f"{len(self.held_out)} held-out faces, judged by the networks of the losses, which "
            "flatters: for comparing runs, not for claims.",
            "",
            "| swapped | identity like itself | like the donor | follows the donor | "
            + " | ".join(f"{name} stays" for name in names)
            + " |",
            "|---" * (4 + len(names)) + "|",
        ]
        for name, figure in figures.items():
            stays = [_shown(figure.stays.get(other)) for other in names]
            cells = [name, _shown(figure.similarity), _shown(figure.donor), _shown(figure.follows)]
            lines.append("| " + " | ".join([*cells, *stays]) + " |")
        return "\n".join([*lines, ""])


def _due(position: int, every: int) -> bool:
    return every > 0 and position % every == 0


def _shown(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.3f}"


def _keep_lines(path: Path, keep: Callable[[str], bool]) -> None:
    """Leave out lines, also a last one that was cut off."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    kept = [line for line in lines if keep(line)]
    with atomic_file(path, overwrite=True) as stream:
        stream.write("".join(f"{line}\n" for line in kept).encode())


def _csv_step(line: str) -> int:
    first = line.partition(",")[0]
    return int(first) if first.isdigit() else 0  # the header


def _json_step(line: str) -> int:
    return int(json.loads(line)["step"])


def _event_writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtra(
            "report.tensorboard needs the package tensorboard: pip install tensorboard"
        ) from error
    writer: Any = SummaryWriter
    return writer(str(folder / "events"))
