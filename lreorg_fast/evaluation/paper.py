"""The paper's own figures, as data, for standing beside what was measured here.

They are copied and not measured: other pictures, other recognizers and other networks stand behind
them. The report never mixes them with figures of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

PAPER = "Latent Representation Reorganization for Face Privacy Protection (LReOrg, 2024)"
DIFFERENCE = (
    "The paper's figures are its authors' own, copied: its pictures, recognizers, attribute "
    "classifiers and networks differ from those here, so compare the order of the methods and "
    "not the digits."
)
_CELEBA = "5,000 test pictures of CelebA-HQ, trained on 25,000 others, 256 pixels"
_PSR = "PSR is the share that the recognizer misclassifies (closed set), in percent"
ATTRIBUTES = ("gender", "age", "expression", "makeup")


@dataclass(frozen=True)
class PaperRow:
    """One line of a table.

    Attributes:
        title: as the paper calls the method.
        method: the name of the method here that does the same (:class:`MethodResult`), or that
            its folder should have.
        values: by column; a figure that the paper does not give is not there.
    """

    title: str
    method: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class PaperTable:
    """One table.

    Attributes:
        title: what it shows.
        source: whose figures they are.
        conditions: on what they were measured, and what the columns mean.
        columns: titles in order; shares in percent, FID as it is.
        rows: in the paper's order.
    """

    title: str
    source: str
    conditions: str
    columns: tuple[str, ...]
    rows: tuple[PaperRow, ...]

    def row(self, method: str) -> PaperRow | None:
        """The line of the method of that name here, None if there is none."""
        return next((row for row in self.rows if row.method == method), None)


def _table(
    title: str, conditions: str, columns: str, lines: Mapping[str, str], source: str = PAPER
) -> PaperTable:
    """``columns`` and the values of ``lines`` ("method: title | values", "-" for none)."""
    names = tuple(column.strip() for column in columns.split("|"))
    rows = []
    for method, line in lines.items():
        label, *cells = (cell.strip() for cell in line.split("|"))
        pairs = zip(names, cells, strict=True)
        values = {name: float(cell) for name, cell in pairs if cell != "-"}
        rows.append(PaperRow(label, method, MappingProxyType(values)))
    return PaperTable(title, source, conditions, names, tuple(rows))


_USUAL = "PSR ArcFace | PSR AdaFace | detection | APR | FID"
_JOINT = "PSR ArcFace | PSR AdaFace | APR | FID"

CELEBA_HQ = _table(
    "Protection and usefulness on CelebA-HQ",
    f"{_CELEBA}; {_PSR}; APR is the mean share of preserved attributes",
    _USUAL,
    {
        "original": "original | 0 | 0 | 100 | 92.2 | 5.65",
        "ciagan": "CIAGAN | 97.4 | 97.3 | 100 | 74.0 | 102.8",
        "deepprivacy": "DeepPrivacy | 95.1 | 95.9 | 100 | 73.9 | 53.3",
        "blur": "blurring | 97.0 | 98.1 | 93.2 | 66.3 | 57.7",
        "dartblur": "DartBlur | 99.9 | 100 | 97.8 | 64.2 | 128.2",
        "laplace": "IdentityDP-style (Laplace) | 87.1 | 87.9 | 100 | 81.5 | 53.9",
        "deepprivacy2": "DeepPrivacy2 | 96.9 | 96.8 | 99.9 | 77.0 | 16.0",
        "ldfa": "LDFA | 87.6 | 88.7 | 98.5 | 83.6 | 8.1",
        "clip2protect": "CLIP2Protect | 44.3 | 42.2 | 100 | 86.9 | 41.0",
        "k-anonymity": "k-anonymity (farthest group) | 98.2 | 99.1 | - | 64.3 | 69.0",
        "lreorg": "LReOrg | 98.4 | 98.8 | 100 | 82.0 | 40.1",
    },
)
LFW = _table(
    "Protection and usefulness on LFW",
    f"5,000 pictures of LFW; {_PSR}; APR is the mean share of preserved attributes",
    _USUAL,
    {
        "ciagan": "CIAGAN | 96.9 | 97.4 | 100 | 77.0 | 29.5",
        "deepprivacy": "DeepPrivacy | 92.4 | 94.7 | 100 | 83.0 | 53.7",
        "dartblur": "DartBlur | 98.0 | 99.0 | 99.2 | 78.6 | 59.3",
        "deepprivacy2": "DeepPrivacy2 | 94.6 | 96.4 | 100 | 83.8 | 52.2",
        "ldfa": "LDFA | 93.4 | 94.9 | 99.2 | 85.0 | 5.2",
        "lreorg": "LReOrg | 99.6 | 99.6 | 100 | 78.8 | 73.9",
    },
)
JOINT_RECOVERED = _table(
    "Identity and one attribute hidden, the others recovered",
    f"{_CELEBA}; {_PSR}",
    _JOINT,
    {
        "lreorg": "identity | 98.4 | 98.8 | 82.0 | 40.1",
        "lreorg+gender-farthest": "identity + gender | 99.4 | 99.7 | 72.4 | 60.5",
        "lreorg+age-farthest": "identity + age | 98.5 | 99.2 | 68.8 | 62.3",
        "lreorg+expression-farthest": "identity + expression | 99.0 | 99.1 | 53.4 | 52.0",
        "lreorg+makeup-farthest": "identity + makeup | 98.6 | 98.8 | 79.6 | 53.8",
    },
)
JOINT_NOT_RECOVERED = _table(
    "Identity and one attribute hidden, nothing recovered",
    f"{_CELEBA}; {_PSR}",
    _JOINT,
    {
        "lreorg+gender-farthest-not-recovered": "identity + gender | 99.6 | 99.7 | 39.9 | 53.9",
        "lreorg+age-farthest-not-recovered": "identity + age | 99.4 | 99.5 | 47.7 | 47.5",
        "lreorg+expression-farthest-not-recovered": (
            "identity + expression | 99.3 | 99.5 | 47.3 | 35.9"
        ),
        "lreorg+makeup-farthest-not-recovered": "identity + makeup | 99.0 | 99.0 | 51.4 | 40.3",
    },
)
RECOVERY = _table(
    "Right again after anonymization was reversed",
    f"{_CELEBA}; share in percent that is recovered by the method's own reversal",
    "identity | gender | age | expression | makeup",
    {"lreorg": "LReOrg | 59.5 | 99.0 | 84.7 | 81.4 | 84.1"},
)
ALONE = _table(
    "One attribute hidden alone: how much of the identity goes with it",
    f"{_CELEBA}; {_PSR}; the identity itself is left as it is",
    "PSR ArcFace | PSR AdaFace",
    {
        "hide-gender-farthest": "gender | 69.2 | 51.0",
        "hide-age-farthest": "age | 27.8 | 13.6",
        "hide-expression-farthest": "expression | 27.9 | 11.5",
        "hide-makeup-farthest": "makeup | 22.0 | 9.5",
    },
)
NULLFACE = _table(
    "Stronger since: NullFace",
    "CelebA-HQ, its authors' own protocol (2025-26), which differs from the paper's; "
    "re-identification in percent",
    "re-identified | FID",
    {"nullface": "NullFace | 0.21 | 8.2"},
    source="NullFace, its authors' own figures",
)
TABLES: Mapping[str, PaperTable] = MappingProxyType(
    {
        "celeba-hq": CELEBA_HQ,
        "lfw": LFW,
        "joint-recovered": JOINT_RECOVERED,
        "joint-not-recovered": JOINT_NOT_RECOVERED,
        "recovery": RECOVERY,
        "alone": ALONE,
        "nullface": NULLFACE,
    }
)


def usual_table(data_name: str) -> PaperTable:
    """The paper's main table for a data set of that name: LFW's, or CelebA-HQ's for all others."""
    return LFW if "lfw" in data_name.casefold() else CELEBA_HQ
