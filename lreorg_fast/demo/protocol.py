"""What the paper's tables hold beyond the demo's own figures, on the same people and judges.

Joint protection (identity and one attribute, the others recovered or not), how privacy and
usefulness move with the number of recovered attributes, and what CDFNet's inverse loses.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import cast

import torch
from torch import Tensor

from lreorg_fast.cdfnet import CDFNet
from lreorg_fast.demo.figures import METHODS, PAPER_RULE, Measurement, Named, Section
from lreorg_fast.demo.judge import Floats
from lreorg_fast.evaluation import mean_figure
from lreorg_fast.keywords import DEFAULT_HIDE, DEFAULT_KEEP
from lreorg_fast.weights.parts import load_part

INVERSE = "inverse"
RECOVERIES = {True: "others recovered", False: "nothing recovered"}


def joint_label(attribute: str, recovered: bool) -> str:
    """Name of the figures of :func:`joint`."""
    return f"identity + {attribute}, {RECOVERIES[recovered]}"


def frontier_label(recovered: int) -> str:
    """Name of the figures where the first ``recovered`` attributes come back."""
    return f"{recovered} recovered"


def variant_sections(measurement: Measurement) -> dict[str, Section]:
    """What every trained variant is measured on; the other methods need one network only."""
    sections = {n: s for n, s in measurement.sections().items() if n not in METHODS}
    return {**sections, INVERSE: partial(inverse, measurement)}


def full_sections(measurement: Measurement) -> dict[str, Section]:
    """Everything: :func:`variant_sections`, the other methods, joint protection, the frontier."""
    return {
        **measurement.sections(),
        INVERSE: partial(inverse, measurement),
        **{
            joint_label(name, recovered): partial(joint, measurement, name, recovered)
            for recovered in RECOVERIES
            for name in DEFAULT_KEEP
        },
        # None recovered and all recovered are measured above.
        **{
            frontier_label(count): partial(
                measurement.anonymized, frontier_label(count), keep=DEFAULT_KEEP[:count]
            )
            for count in range(1, len(DEFAULT_KEEP))
        },
    }


def joint(measurement: Measurement, attribute: str, recovered: bool) -> Iterator[Named]:
    """Identity and one attribute hidden by the paper's rules (the farthest content)."""
    others = [name for name in DEFAULT_KEEP if name != attribute]
    return measurement.anonymized(
        joint_label(attribute, recovered),
        hide=[*DEFAULT_HIDE, attribute],
        keep=others if recovered else (),
        attribute_rule=PAPER_RULE,
    )


@torch.inference_mode()
def inverse(measurement: Measurement) -> Iterator[Named]:
    """The reference network on the people's latents in float32, mean over rows and dimensions.

    Round trip: ``|s - fuse(disentangle(s))|``, zero but for rounding. Information lost (what L_r
    bounds): ``|Delta_r|`` after the key feature of the next person was put in.
    """
    bundle = measurement.anonymizer.bundle
    net = cast(CDFNet, load_part(bundle, "cdfnet"))
    s = measurement.latents.float().cpu()
    for name in (*DEFAULT_HIDE, *DEFAULT_KEEP):
        keyword = bundle.tensors("tables")[f"keyword.{name}"].float()
        f, r = net.disentangle(s, keyword)
        _, back = net.fuse(f, r, keyword)
        yield f"inverse, {name}: round trip error", mean_figure(_per_person(back - s))
        lost, swapped = net.fuse(f.roll(-1, dims=0), r, keyword)
        yield f"inverse, {name}: information lost", mean_figure(_per_person(lost))
        change = (swapped - s).norm(dim=-1).mean(dim=1).double().numpy()
        yield f"inverse, {name}: latent change", mean_figure(change)


def _per_person(difference: Tensor) -> Floats:
    means: Floats = difference.abs().flatten(1).mean(dim=1).double().numpy()
    return means
