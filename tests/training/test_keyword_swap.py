"""Keyword swap training: losses with known values, and a run that can be interrupted."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from toy_training import COND, DIM, FEATURES, ToyJudges, nothing
from toy_training import toy_config as config
from toy_training import toy_net as net

from lreorg_fast.cdfnet import CDFNet
from lreorg_fast.errors import CheckpointError, ConfigError
from lreorg_fast.training import losses
from lreorg_fast.training.keyword_swap import KeywordSwap, LossWeights, SwapTrainingConfig
from lreorg_fast.training.run import Run, format_seconds
from lreorg_fast.training.trainer import TrainingStopped, leave_saddle, train_cdfnet


def test_identity_swap_of_perfect_and_of_no_swap() -> None:
    a, b = torch.eye(6)[:3], torch.eye(6)[3:]
    assert losses.identity_swap((a, b), (b, a), None).item() == pytest.approx(0.0)
    # Eq. 6 of unswapped faces: two distances of 1, minus two distances of 0.
    assert losses.identity_swap((a, b), (a, b), None).item() == pytest.approx(4.0)


def test_the_floor_stops_rewarding_the_opposite_face() -> None:
    a = torch.eye(4)[:1]
    assert losses.away_from(a, -a, None) < losses.away_from(a, torch.eye(4)[1:2], None)
    assert losses.away_from(a, -a, 0.05) == losses.away_from(a, torch.eye(4)[1:2], 0.05) == 0


def test_content_cross_entropy_is_least_for_the_wanted_distribution() -> None:
    wanted = torch.tensor([[0.9, 0.1]])
    right = losses.content_cross_entropy(wanted, wanted)
    assert right.item() == pytest.approx(-(0.9 * math.log(0.9) + 0.1 * math.log(0.1)))
    assert losses.content_cross_entropy(wanted, wanted.flip(1)) > right
    assert torch.isfinite(losses.content_cross_entropy(wanted, torch.tensor([[0.0, 1.0]])))


def test_a_fresh_net_changes_nothing_and_loses_nothing() -> None:
    swap = KeywordSwap(net(), ToyJudges(), FEATURES, config())
    for keyword in ("identity", "age"):
        terms = swap.swap_terms(keyword)
        assert terms["latent"].item() == pytest.approx(0.0, abs=1e-6)
        assert terms["information"].item() == pytest.approx(0.0, abs=1e-6)


def test_weights_scale_their_terms() -> None:
    weights = LossWeights(identity_swap=48.0, perceptual=0.0)
    losses_by_weight = []
    for chosen in (LossWeights(), weights):
        torch.manual_seed(3)
        swap = KeywordSwap(net(), ToyJudges(), FEATURES, config(weights=chosen))
        losses_by_weight.append(swap.swap_terms("identity")["identity"].item())
    assert losses_by_weight[1] == pytest.approx(2 * losses_by_weight[0])


class TwoAttributes(ToyJudges):
    """Hair besides age; its evidence lies beside that of age."""

    def contents(self, picture: Tensor, keywords: Sequence[str]) -> list[Tensor]:
        where = {"age": slice(-2, None), "hair": slice(-4, -2)}
        return [torch.softmax(4 * picture[:, where[k], 0, 0], dim=1) for k in keywords]


WITH_HAIR = {**FEATURES, "hair": torch.eye(COND)[2]}


def with_hair(weight: float, **changes: object) -> SwapTrainingConfig:
    return config(
        keyword_shares={"identity": 1.0, "age": 1.0, "hair": 1.0},
        kept_keywords=("age", "hair"),
        weights=LossWeights(contents_kept=weight),
        **changes,
    )


def hair_moved_by_an_age_swap(trained: CDFNet) -> Tensor:
    torch.manual_seed(6)
    swap = KeywordSwap(trained, TwoAttributes(), WITH_HAIR, with_hair(0.5, batch=64))
    return swap.swap_terms("age")["contents_kept"]


def test_contents_that_were_not_swapped_cost_as_much_as_they_moved() -> None:
    fresh, judges = net(), TwoAttributes()
    assert hair_moved_by_an_age_swap(fresh).item() == pytest.approx(0.0, abs=1e-6)
    leave_saddle(fresh, scale=0.2)
    torch.manual_seed(6)
    s = judges.latents(128)
    f, r = fresh.disentangle(s, FEATURES["age"])
    _, swapped = fresh.fuse(f.roll(64, dims=0), r, FEATURES["age"])
    was, now = (judges.contents(judges.picture(x), ["hair"])[0] for x in (s, swapped))
    moved = (was * (was / now).log()).sum(dim=1).mean()
    assert moved > 1e-3
    assert hair_moved_by_an_age_swap(fresh).item() == pytest.approx(moved.item(), rel=1e-4)


def test_the_paper_does_not_ask_for_other_contents_and_an_identity_swap_never_does() -> None:
    swap = KeywordSwap(net(), TwoAttributes(), WITH_HAIR, with_hair(0.0))
    assert "contents_kept" not in swap.swap_terms("age")
    swap = KeywordSwap(net(), TwoAttributes(), WITH_HAIR, with_hair(1.0))
    assert "contents_kept" not in swap.swap_terms("identity")


def test_asking_for_the_other_contents_makes_a_keyword_leak_less(tmp_path: Path) -> None:
    moved = []
    for weight in (0.0, 100.0):
        trained = net()
        settings = with_hair(weight, steps=60, warm_up=5)
        torch.manual_seed(7)
        folder = tmp_path / str(weight)
        train_cdfnet(trained, TwoAttributes(), WITH_HAIR, settings, folder, nothing)
        moved.append(hair_moved_by_an_age_swap(trained).item())
    assert moved[1] < 0.5 * moved[0]


class Asked(TwoAttributes):
    """Notes which keywords pictures are asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, ...]] = []

    def contents(self, picture: Tensor, keywords: Sequence[str]) -> list[Tensor]:
        self.asked.append(tuple(keywords))
        return super().contents(picture, keywords)


@pytest.mark.parametrize(
    ("keep", "hide", "wanted"),
    [
        (1.0, 1.0, [("age", "hair")]),  # of s
        (0.0, 1.0, [("age", "hair"), ()]),  # of the donor, and nothing of s
        (0.0, 0.0, [()]),
    ],
)
def test_a_plan_hides_what_it_does_not_keep(
    keep: float, hide: float, wanted: list[tuple[str, ...]]
) -> None:
    judges = Asked()
    settings = with_hair(0.0, keep_probability=keep, hide_probability=hide)
    KeywordSwap(net(), judges, WITH_HAIR, settings).plan_terms()
    assert judges.asked[:-1] == wanted


def test_hiding_in_plans_teaches_a_recovered_attribute_to_leave_a_hidden_one(
    tmp_path: Path,
) -> None:
    """Age is hidden by the donor's, hair is recovered: the end must have the donor's age."""
    found = []
    for hide in (0.0, 1.0):
        trained = net()
        settings = with_hair(
            0.0, steps=150, warm_up=5, keep_probability=0.5, hide_probability=hide,
            recurrence_every=1,
        )  # fmt: skip
        torch.manual_seed(7)
        train_cdfnet(trained, TwoAttributes(), WITH_HAIR, settings, tmp_path / str(hide), nothing)
        torch.manual_seed(8)
        judges = TwoAttributes()
        s, donor = judges.latents(128).chunk(2)
        swap = KeywordSwap(trained, judges, WITH_HAIR, settings)
        _, end, _ = swap.reorganized(trained, s, donor, ["age"], ["hair"])
        wanted, now = (judges.contents(judges.picture(x), ["age"])[0] for x in (donor, end))
        found.append(losses.content_divergence(wanted, now).item())
    assert found[1] < 0.7 * found[0], found


def way_back(trained: CDFNet, weights: LossWeights) -> tuple[float, ...]:
    """Reversal's terms of an attribute's swap, of the identity's and of a plan."""
    torch.manual_seed(9)
    swap = KeywordSwap(trained, ToyJudges(), FEATURES, config(weights=weights, batch=64))
    terms = swap.swap_terms("age"), swap.swap_terms("identity"), swap.plan_terms()
    names = ("reversal", "reversal", "identity_back")
    return tuple(t[n].item() for t, n in zip(terms, names, strict=True))


def test_a_latent_that_comes_back_costs_nothing_and_another_its_distance() -> None:
    weights = LossWeights(reversal=0.5, identity_back=1.0)
    assert way_back(net(), weights)[:2] == pytest.approx((0.0, 0.0), abs=1e-6)
    changing, judges, k = net(), ToyJudges(), FEATURES["age"]
    leave_saddle(changing, scale=0.2)
    torch.manual_seed(9)
    s = judges.latents(128)
    f, r = changing.disentangle(s, k)
    _, swapped = changing.fuse(f.roll(64, dims=0), r, k)
    _, back = changing.fuse(f, changing.disentangle(swapped, k)[1], k)
    distance = (back - s).norm(dim=-1).mean().item()
    assert distance > 1e-3
    assert way_back(changing, weights)[0] == pytest.approx(distance, rel=1e-4)


def test_the_paper_asks_for_no_way_back() -> None:
    swap = KeywordSwap(net(), ToyJudges(), FEATURES, config())
    assert "reversal" not in swap.swap_terms("age")
    assert "identity_back" not in swap.plan_terms()


def test_asking_for_the_way_back_makes_keys_bring_more_back(tmp_path: Path) -> None:
    measured = LossWeights(reversal=1.0, identity_back=1.0)
    found = []
    for weight in (0.0, 30.0):
        trained = net()
        weights = LossWeights(reversal=weight, identity_back=weight)
        settings = config(weights=weights, steps=80, warm_up=5)
        torch.manual_seed(7)
        train_cdfnet(trained, ToyJudges(), FEATURES, settings, tmp_path / str(weight), nothing)
        found.append(way_back(trained, measured))
    assert all(now < 0.7 * before for before, now in zip(*found, strict=True)), found


def test_every_third_step_goes_through_a_plan() -> None:
    swap = KeywordSwap(net(), ToyJudges(), FEATURES, config(keep_probability=1.0))
    kinds = [swap.step(i)[0] for i in range(6)]
    assert [kind == "plan" for kind in kinds] == [False, False, True] * 2
    assert "age" in swap.plan_terms()
    never = KeywordSwap(net(), ToyJudges(), FEATURES, config(recurrence_every=0))
    assert all(never.step(i)[0] != "plan" for i in range(6))


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    trained, judges = net(), ToyJudges()

    def loss() -> float:
        torch.manual_seed(5)
        swap = KeywordSwap(trained, judges, FEATURES, config(batch=64))
        return float(sum(term.item() for term in swap.swap_terms("identity").values()))

    before = loss()
    train_cdfnet(trained, judges, FEATURES, config(steps=60, warm_up=5), tmp_path, lambda _: None)
    assert loss() < 0.8 * before


def test_an_interrupted_run_ends_where_an_unbroken_one_does(tmp_path: Path) -> None:
    said: list[str] = []

    def run(folder: Path, interrupt_after: int | None) -> CDFNet:
        trained, judges = net(), ToyJudges()
        torch.manual_seed(9)
        if interrupt_after is not None:
            seen = itertools.count()
            latents = judges.latents

            def interrupted(count: int) -> Tensor:
                if next(seen) == interrupt_after:
                    raise KeyboardInterrupt
                return latents(count)

            judges.latents = interrupted  # type: ignore[method-assign]
        train_cdfnet(trained, judges, FEATURES, config(), folder, said.append, save_every=0.0)
        return trained

    unbroken = run(tmp_path / "whole", None)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", 7)
    resumed = run(tmp_path / "broken", None)
    assert "cdfnet: resumed at 7 of 12 steps" in said
    for a, b in zip(unbroken.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_loss_that_is_no_number_stops_with_its_name(tmp_path: Path) -> None:
    judges = ToyJudges()
    judges.contents = lambda picture, keywords: [picture[:, :2, 0, 0] * float("nan")]  # type: ignore
    settings = config(keyword_shares={"identity": 0.0, "age": 1.0}, recurrence_every=0)
    with pytest.raises(TrainingStopped, match="'age'"):
        train_cdfnet(net(), judges, FEATURES, settings, tmp_path, lambda _: None)


@pytest.mark.parametrize(
    "changes",
    [
        {"steps": 0},
        {"batch": 1},
        {"learning_rate": 0.0},
        {"keyword_shares": {"age": 1.0}},
        {"keyword_shares": {"identity": -1.0}},
        {"kept_keywords": ("hat",)},
        {"recurrence_every": -1},
        {"keep_probability": 2.0},
        {"precision": "float16"},
        {"precision": "bfloat16", "constant_memory": False},
        {"average": 1.0},
        {"final_rate": 0.0},
    ],
    ids=str,
)
def test_impossible_settings_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        config(**changes)


def test_a_damaged_checkpoint_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match=r"state\.pt"):
        Run(tmp_path, "x", 1, "steps", lambda _: None).resume()


def test_progress_says_rate_and_time_left(tmp_path: Path) -> None:
    said: list[str] = []
    run = Run(tmp_path, "stage", 3, "steps", said.append, save_every=0.0)
    for _ in run.steps(1, dict):
        run.track(loss=1.0)
    assert not run.done
    run.finish(answer=42)
    assert run.done
    assert all(word in said[0] for word in ("stage: 1/3 steps", "a minute", "left", "loss 1"))
    assert (tmp_path / "log.jsonl").read_text().count("\n") == 3
    assert format_seconds(3725) == "1:02:05"


def test_the_identity_is_a_saddle_that_training_leaves() -> None:
    """At the identity every gradient is zero, so a fresh net must be disturbed to learn at all."""

    def gradient(trained: CDFNet) -> float:
        torch.manual_seed(1)
        swap = KeywordSwap(trained, ToyJudges(), FEATURES, config())
        sum(swap.swap_terms("identity").values()).backward()
        return max(float(p.grad.abs().max()) for p in trained.parameters() if p.grad is not None)

    fresh, disturbed = net(), net()
    leave_saddle(disturbed)
    assert gradient(fresh) < 1e-6
    assert gradient(disturbed) > 1e-2
    s = torch.randn(4, DIM)
    _, r = disturbed.disentangle(s, FEATURES["age"])
    assert float((r - s).detach().abs().max()) < 0.5  # still close to the identity


def test_a_rare_loss_that_is_no_number_may_be_skipped(tmp_path: Path) -> None:
    judges, calls, said = ToyJudges(), itertools.count(), []
    picture = judges.picture

    def sometimes(latents: Tensor) -> Tensor:
        return picture(latents) * (float("nan") if next(calls) in (4, 5) else 1.0)

    judges.picture = sometimes  # type: ignore[method-assign]
    trained = net()
    settings = config(skip_limit=1)
    train_cdfnet(trained, judges, FEATURES, settings, tmp_path, said.append)
    assert any("skipped" in line for line in said)
    assert all(torch.isfinite(p).all() for p in trained.parameters())


@pytest.mark.parametrize("kind", ["identity", "age", "plan"])
def test_constant_memory_gives_the_losses_and_gradients_of_stored_activations(kind: str) -> None:
    results = []
    for constant_memory in (True, False):
        trained = net()
        leave_saddle(trained)
        torch.manual_seed(3)
        swap = KeywordSwap(trained, ToyJudges(), FEATURES, config(constant_memory=constant_memory))
        terms = swap.plan_terms() if kind == "plan" else swap.swap_terms(kind)
        loss = torch.stack(list(terms.values())).sum()
        loss.backward()
        gradients = torch.cat(
            [p.grad.flatten() for p in trained.parameters() if p.grad is not None]
        )
        results.append((loss.detach(), gradients))
    (loss, gradients), (stored_loss, stored_gradients) = results
    assert stored_gradients.norm() > 0
    assert (loss - stored_loss).abs() <= 1e-5 * stored_loss.abs()
    # The bound in float32: sums in another order, and inputs recomputed from outputs.
    assert (gradients - stored_gradients).norm() <= 1e-5 * stored_gradients.norm()


def test_bfloat16_products_are_near_float32_and_not_the_same() -> None:
    found = []
    for precision in ("float32", "bfloat16"):
        trained = net()
        leave_saddle(trained, scale=1.0)
        torch.manual_seed(3)
        swap = KeywordSwap(trained, ToyJudges(), FEATURES, config(precision=precision))
        found.append(swap.swap_terms("identity")["identity"].item())
    assert found[0] != found[1]
    # Products of operands rounded to 8 bits: 2^-8 each, through two blocks and a normalization.
    assert found[1] == pytest.approx(found[0], rel=0.05)


def test_the_average_follows_the_parameters_and_survives_a_break(tmp_path: Path) -> None:
    settings = config(average=0.9)

    def averages(folder: Path, stop_at: int | None) -> tuple[CDFNet, dict[str, Tensor]]:
        trained, judges = net(), ToyJudges()
        torch.manual_seed(9)
        if stop_at is not None:
            seen, latents = itertools.count(), judges.latents

            def interrupted(count: int) -> Tensor:
                if next(seen) == stop_at:
                    raise KeyboardInterrupt
                return latents(count)

            judges.latents = interrupted  # type: ignore[method-assign]
        train_cdfnet(trained, judges, FEATURES, settings, folder, lambda _: None, save_every=0.0)
        state = torch.load(folder / "state.pt", weights_only=True)
        return trained, state["payload"]["average"]

    trained, whole = averages(tmp_path / "whole", None)
    assert not any(torch.equal(whole[n], p) for n, p in trained.named_parameters() if p.grad.any())
    with pytest.raises(KeyboardInterrupt):
        averages(tmp_path / "broken", 7)
    _, resumed = averages(tmp_path / "broken", None)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_features_that_do_not_fit_are_refused_before_a_step() -> None:
    with pytest.raises(ConfigError, match="age, which the table of keywords lacks"):
        KeywordSwap(net(), ToyJudges(), {"identity": FEATURES["identity"]}, config())
    wide = {**FEATURES, "age": torch.ones(COND + 1)}
    with pytest.raises(ConfigError, match="'age' has the shape"):
        KeywordSwap(net(), ToyJudges(), wide, config())
