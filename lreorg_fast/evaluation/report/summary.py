"""The report's first page: what was found, in sentences that are made from the figures."""

from __future__ import annotations

from collections.abc import Iterator

from lreorg_fast.evaluation.measured import METRICS, Evaluation, Measured, MethodResult
from lreorg_fast.evaluation.report.front import (
    OWN,
    Front,
    Point,
    compare,
    judge_of,
    main_methods,
    naive_front,
)
from lreorg_fast.evaluation.report.text import clause, number, place, sentence, words

# Below half of the genuine pairs accepted, "not recognised" says more of the recognizer.
WORKS = 0.5


def judged(evaluation: Evaluation) -> str:
    """What was judged, on what."""
    data = evaluation.data
    counts = f"{words(data.get('pictures', '?'))} pictures of {words(data.get('subjects', '?'))}"
    return (
        f"{len(evaluation.methods)} methods were judged on {counts} people "
        f"({words(data.get('name', '?'))}, {words(data.get('domain', '?'))})."
    )


def found(evaluation: Evaluation) -> Iterator[str]:
    """The findings, a sentence or two each."""
    yield from recognizers_work(evaluation)
    front = naive_front(evaluation.methods)
    yield from front_words(front)
    yield from own_words(front)
    yield parrot_words(evaluation)
    yield from strongest_attack(evaluation)


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
    promised = [m.title for m in evaluation.methods if m.guarantee.casefold() not in ("none", "")]
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
    measured = [entry for entry in rates if entry.figure is not None]
    if not measured:
        why = clause(rates[0].reason) if rates else "it was not measured in this run"
        yield f"Whether the recognizers recognise the originals is not known: {why}."
        return
    worst = min(measured, key=lambda entry: entry.figure.value if entry.figure else 0.0)
    yield (
        f"The recognizers accept at least {sentence(worst)} of the pairs of originals of one "
        f"person ({place(worst.where)})."
    )
    for entry in measured:
        if entry.figure is not None and entry.figure.value < WORKS:
            yield (
                f"Warning: {place(entry.where)} accepts less than half of such pairs; that it "
                "does not recognise an output proves no protection."
            )


def front_words(front: Front) -> Iterator[str]:
    """Who wins on the privacy-utility front."""
    if not front.points:
        reasons = (
            "; ".join(f"{m.title}: {clause(reason)}" for m, reason in front.missing) or "no methods"
        )
        yield f"No method can be placed between protection and usefulness ({reasons})."
        return
    best = "; ".join(_stands(point) for point in front.best)
    yield (
        f"On the front of protection ({front.axis}, by the recognizer that is worst for the "
        f"method) and usefulness (APR), no method is better in both than: {best}."
    )
    beaten = [point for point in front.points if front.beaten_by(point)]
    if beaten:
        lines = "; ".join(
            f"{point.method.title} by {', '.join(o.method.title for o in front.beaten_by(point))}"
            for point in beaten
        )
        yield f"Beaten in both by their values: {lines}."


def own_words(front: Front) -> Iterator[str]:
    """The method of this package against each of the others, intervals considered."""
    own = front.of(OWN)
    for other in front.points if own is not None else ():
        if own is not None and other is not own:
            yield (
                f"Against {other.method.title}, {own.method.title} protects "
                f"{compare(own.protection, other.protection)}, and preserves "
                f"{compare(own.usefulness, other.usefulness)}."
            )


def parrot_words(evaluation: Evaluation) -> str:
    """What the decisive attack found, whatever it says."""
    lines, reasons = [], []
    for method in main_methods(evaluation.methods):
        entries = [e for e in method.all("parrot_rank_1") if "group" not in e.where]
        measured = [entry for entry in entries if entry.figure is not None]
        if measured:
            worst = max(measured, key=lambda e: e.figure.value if e.figure else 0.0)
            lines.append(f"{method.title} {sentence(worst)}{_naive(method, worst)}")
        else:
            reasons += [f"{method.title}: {clause(entry.reason)}" for entry in entries[:1]]
    if not lines:
        why = "; ".join(reasons) or "it was not part of this run"
        return f"The parrot attack, the decisive one, has no figures: {why}."
    text = (
        "The parrot attack (a recognizer trained on the method's outputs of other people) puts "
        f"the right person first for this share of the faces: {'; '.join(lines)}."
    )
    return text + (f" Without a figure: {'; '.join(reasons)}." if reasons else "")


def strongest_attack(evaluation: Evaluation) -> Iterator[str]:
    """The re-identification that finds most faces of this package's own method."""
    own = next((method for method in evaluation.methods if method.name == OWN), None)
    entries = [
        entry
        for entry in (own.measured if own else ())
        if entry.figure is not None
        and (entry.metric.endswith("rank_1") or entry.metric == "rank_last")
        and "group" not in entry.where
    ]
    if own is not None and entries:
        worst = max(entries, key=lambda e: e.figure.value if e.figure else 0.0)
        yield (
            f"Of all attacks that were tried on {own.title}, '{METRICS[worst.metric].title}' "
            f"({place(worst.where) or 'no further conditions'}) finds most: {sentence(worst)}."
        )


def _naive(method: MethodResult, parrot: Measured) -> str:
    """The same recognizer without that training, for comparison."""
    naive = [e for e in method.all("rank_1") if e.figure is not None and "group" not in e.where]
    worst = max(naive, key=lambda e: e.figure.value if e.figure else 0.0, default=None)
    if worst is None or worst.figure is None:
        return ""
    return f" (without such training at most {number('rank_1', worst.figure.value)}%)"


def _stands(point: Point) -> str:
    judge = judge_of(point)
    return (
        f"{point.method.title} ({number('psr', point.protection.value)}% protected"
        f"{f', {judge}' if judge else ''}; {number('apr_mean', point.usefulness.value)}% preserved)"
    )
