"""What is noted of a finished segment, so that a run that goes on knows its people again."""

from __future__ import annotations

from collections import Counter
from typing import Any

from lreorg_fast.errors import VideoError
from lreorg_fast.privacy import Ledger
from lreorg_fast.video.checkpoint import Checkpoint, draws_from_json, draws_to_json
from lreorg_fast.video.editing import Notes, SegmentEditor


def saved(notes: Notes, editor: SegmentEditor, ledger: Ledger | None) -> dict[str, Any]:
    """Notes of a segment and the draws that it shows, JSON-able."""
    drawn = {}
    if ledger is not None:
        drawn = {str(t): draws_to_json(ledger.drawn(editor.track(t))) for t in notes.faces}
    return {
        "faces": {str(track): dict(counts) for track, counts in notes.faces.items()},
        "reasons": {str(track): dict(counts) for track, counts in notes.reasons.items()},
        "epsilon": {str(track): str(value) for track, value in notes.epsilon.items()},
        "corrected": notes.corrected,
        "blanked": notes.blanked,
        "drawn": drawn,
    }


def resumed(content: dict[str, Any], editor: SegmentEditor, ledger: Ledger | None) -> Notes:
    """Notes of a segment that an earlier run made; its draws are held again.

    Raises:
        BudgetExceeded, PrivacyError: of the ledger, or draws that cannot be read.
        VideoError: a named person has another face in this run already.
    """
    made = Notes(corrected=content["corrected"], blanked=content["blanked"])
    for name in ("faces", "reasons"):
        for track, counts in content[name].items():
            getattr(made, name)[int(track)] = Counter(counts)
    made.epsilon = {int(track): float(value) for track, value in content["epsilon"].items()}
    if ledger is not None:
        for number, drawn in content["drawn"].items():
            track, draws = editor.track(int(number)), draws_from_json(drawn)
            held = ledger.drawn(track)
            if any(
                name in held and (held[name].feature != draw.feature).any()
                for name, draw in draws.items()
            ):
                raise VideoError(
                    "the interrupted run gave a named person another face than this run did in "
                    "an earlier file; go on with it by --resume in a run of its own"
                )
            ledger.resume(track, draws)
    return made


def check_seal(work: Checkpoint, number: int, content: dict[str, Any]) -> None:
    """Raises VideoError unless the seal of a segment is what the interrupted run wrote."""
    digest = content.get("seal")
    if digest is not None and work.seal_digest(number) != digest:
        raise VideoError(
            f"the seal '{work.seal_path(number)}' of the interrupted run is damaged, and without "
            "it nobody could be brought back; start anew by --force"
        )
