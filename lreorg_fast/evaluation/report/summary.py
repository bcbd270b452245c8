"""The report's first page: what was found, in sentences that are made from the figures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lreorg_fast.evaluation.figures import Figure
from lreorg_fast.evaluation.measured import METRICS, Evaluation, Measured
from lreorg_fast.evaluation.report.front import ORIGINAL, OWN, Front, Point, main_methods
from lreorg_fast.evaluation.report.text import clause, number, place, plain, sentence, words

# Below half of the genuine pairs accepted, "not recognised" says more of the recognizer.
WORKS = 0.5


def judged(evaluation: Evaluation) -> str:
    """What was judged, on what."""
    data = evaluation.data
    counts = f"{words(data.get('pictures', '?'))} pictures of {words(data.get('subjects', '?'))}"
    return (
        f"{len(evaluation.methods)} methods were judged on {counts} people "
        f"({plain(words(data.get('name', '?')), 120)}, {words(data.get('domain', '?'))})."
    )


def not_said(evaluation: Evaluation) -> Iterator[str]:
    """What the figures do not say."""
    if evaluation.data.get("domain") == "avatars":
        yield (
            "The faces are drawn and not photographed, and the judges were trained on such "
            "drawings: the figures say nothing about photographs."
        )
    yield (
        "Recognizers that were not tried may tell more than those that were, and so may people "
        "who know the person; hair, clothes and place are not hidden by any method that edits a "
        "face."
    )
    promised = [m.title for m in main_methods(evaluation.methods) if _promises(m.guarantee)]
    yield (
        "A success rate is no guarantee: it holds for these pictures and these attacks. "
        + (
            f"A promise is made of {', '.join(promised)}; what it covers stands in the table of "
            "the methods."
            if promised
            else "None of the methods here promises anything."
        )
    )
    gone = sum(entry.figure is None for m in evaluation.methods for entry in m.measured)
    if gone:
        yield f"{gone:,} figures could not be measured; each dash names its reason below its table."
    yield (
        "The intervals hold for each figure by itself at 95%: among many comparisons some differ "
        "by chance."
    )


def recognizers_work(evaluation: Evaluation) -> Iterator[str]:
    """Whether the recognizers recognise the originals; otherwise PSR means nothing."""
    rates = [entry for entry in evaluation.judged if entry.metric == "tar"]
    if not any(entry.figure for entry in rates):
        why = clause(rates[0].reason) if rates else "it was not measured in this run"
        yield f"Whether the recognizers recognise the originals is not known: {why}."
    for entry in rates:
        if entry.figure is not None:
            text = f"{place(entry.where)}: {sentence(entry)} of the pairs of originals accepted."
            if entry.figure.value < WORKS:
                text += (
                    " Warning: that is less than half, so that it does not recognise an output "
                    "proves no protection."
                )
            yield text


def front_words(front: Front) -> Iterator[str]:
    """Who wins on the privacy-utility front, and this package's method against each other."""
    if not front.points:
        reasons = "; ".join(f"{m.title}: {clause(reason)}" for m, reason in front.missing)
        yield (
            "No method can be placed between protection and usefulness "
            f"({reasons or 'none was judged'})."
        )
        return
    best = "; ".join(_stands(point) for point in front.best)
    yield (
        f"On the front of protection ({front.axis}, by the recognizer that is worst for the "
        f"method) and usefulness (APR), no method has better values than: {best}."
    )
    near = [point.method.title for point in front.points if front.nearly_best(point)]
    if near:
        yield f"As good within the intervals: {', '.join(near)}."
    own = front.of(OWN)
    for other in front.points if own is not None else ():
        if own is not None and other is not own:
            yield (
                f"{own.method.title} against {other.method.title}: protects "
                f"{_against('psr', own.protection, other.protection)}; preserves "
                f"{_against('apr_mean', own.usefulness, other.usefulness)}."
            )


def parrot_words(evaluation: Evaluation) -> Iterator[str]:
    """What the decisive attack found, whatever it says."""
    methods = main_methods(evaluation.methods)
    given = [method for method in methods if any(method.all("parrot_rank_1"))]
    if not given:
        yield "The parrot attack, the decisive one, was not part of this run."
        return
    yield (
        "The share of faces whose person a recognizer names first that was trained on the "
        "method's outputs of other people:"
    )
    for method in given:
        entries = [e for e in method.all("parrot_rank_1") if "group" not in e.where]
        worst = _largest(entries)
        if worst is None:
            yield f"{method.title}: not known, {clause(entries[0].reason)}."
            continue
        naive = _largest(entry for entry in method.all("rank_1") if "group" not in entry.where)
        plainly = f"; without that training at most {sentence(naive)}" if naive else ""
        yield f"{method.title}: {_noted(worst)}{plainly}."


def strongest_attack(evaluation: Evaluation) -> Iterator[str]:
    """The re-identification that finds most faces, for each method that is no original."""
    for method in main_methods(evaluation.methods):
        worst = _largest(
            entry
            for entry in method.measured
            if (entry.metric.endswith("rank_1") or entry.metric == "rank_last")
            and "group" not in entry.where
        )
        if worst is not None and method.name != ORIGINAL:
            about = f" ({place(worst.where)})" if worst.where else ""
            yield f"{method.title}: {METRICS[worst.metric].title}{about}, {_noted(worst)}."


def _promises(guarantee: str) -> bool:
    """Not "none", nor "none: " and why."""
    return guarantee.partition(":")[0].strip().casefold() not in ("none", "")


def _noted(entry: Measured) -> str:
    """The figure, and what its note says of chance, of a control and of what was left out."""
    note = entry.figure.note if entry.figure is not None else ""
    return f"{sentence(entry)}{f' ({clause(note)})' if note else ''}"


def _largest(entries: Iterable[Measured]) -> Measured | None:
    figures = [entry for entry in entries if entry.figure is not None]
    return max(figures, key=lambda e: e.figure.value if e.figure else 0.0, default=None)


def _against(metric: str, mine: Figure, theirs: Figure) -> str:
    values = f"{number(metric, mine.value)}% against {number(metric, theirs.value)}%"
    if mine.low > theirs.high:
        return f"more, {values}, intervals apart"
    if mine.high < theirs.low:
        return f"less, {values}, intervals apart"
    return f"as much as far as the intervals tell, {values}"


def _stands(point: Point) -> str:
    judge = point.source[0].where.get("recognizer", "")
    return (
        f"{point.method.title} ({number('psr', point.protection.value)}% protected"
        f"{f' by {judge}' if judge else ''}, "
        f"{number('apr_mean', point.usefulness.value)}% preserved)"
    )
