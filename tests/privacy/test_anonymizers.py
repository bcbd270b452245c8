"""Identity and attribute anonymizers: what comes back, what it costs, what is refused."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from lreorg_fast.errors import ConfigError, PrivacyError
from lreorg_fast.privacy import (
    ATTRIBUTE_RULES,
    MECHANISMS,
    AttributeAnonymizer,
    Codebook,
    GroupIdentityAnonymizer,
    InsecureTestSampler,
    Uniform,
    make_mechanism,
)

GROUPS, MEMBERS, DIM = 16, 5, 24
HOSTILE_IDS = [
    "NaN",
    "one infinity",
    "zero",
    "tokens that cancel",
    "overflow",
    "another dim",
    "three axes",
    "no token",
    "scalar",
    "complex",
    "text",
    "infinite tensor",
    "None",
]


@pytest.fixture(scope="module")
def codebook() -> Codebook:
    generator = np.random.default_rng(6)
    members = 3.0 * generator.standard_normal((GROUPS, MEMBERS, DIM))
    return Codebook(means=members.mean(axis=1), members=members)


@pytest.fixture
def feature() -> np.ndarray:
    """(14, 24) key feature of one face at 256 px."""
    return np.random.default_rng(7).standard_normal((14, DIM))


class TestIdentity:
    @pytest.mark.parametrize("name", ["window-rr", "uniform", "paper-window"])
    def test_a_member_of_the_drawn_group_comes_back(self, name, codebook, feature):
        anonymizer = GroupIdentityAnonymizer(codebook, make_mechanism(name, None, GROUPS))
        for _ in range(20):
            replacement = anonymizer.replacement(feature)
            rows = codebook.members[replacement.group]
            assert (rows == replacement.feature).all(axis=1).sum() == 1
            assert replacement.feature.dtype == np.float32
            assert replacement.mechanism == name
            assert replacement.guarantee == MECHANISMS[name].promise
            assert replacement.epsilon == anonymizer.epsilon == anonymizer.mechanism.epsilon
            assert replacement.guarantee == anonymizer.guarantee

    def test_groups_and_members_are_drawn_with_their_probabilities(self, codebook, feature):
        anonymizer = GroupIdentityAnonymizer(codebook, make_mechanism("window-rr", 2.0, GROUPS))
        table = anonymizer.mechanism.probabilities(anonymizer.distances(feature))
        counts = np.zeros((GROUPS, MEMBERS))
        for _ in range(8_000):
            drawn = anonymizer.replacement(feature)
            member = (codebook.members[drawn.group] == drawn.feature).all(axis=1)
            counts[drawn.group] += member
        expected = np.repeat(8_000 * table / MEMBERS, MEMBERS)
        assert chisquare(counts.ravel(), expected).pvalue > 1e-6

    def test_distance_is_one_minus_cosine_to_the_mean_over_tokens(self, codebook, feature):
        anonymizer = GroupIdentityAnonymizer(codebook, Uniform(GROUPS))
        mean = torch.tensor(feature).mean(0)
        cosine = torch.nn.functional.cosine_similarity(
            torch.tensor(codebook.means).double(), mean[None]
        )
        np.testing.assert_array_equal(
            np.round(anonymizer.distances(feature), 12), np.round(1 - cosine.numpy(), 12)
        )

    @given(
        scale=st.floats(1e-200, 1e200),
        tokens=st.integers(1, 18),
        kind=st.sampled_from([np.asarray, torch.tensor]),
    )
    def test_only_the_direction_counts(self, scale, tokens, kind):
        generator = np.random.default_rng(8)
        codebook = Codebook(generator.standard_normal((4, 6)), generator.standard_normal((4, 1, 6)))
        anonymizer = GroupIdentityAnonymizer(codebook, Uniform(4))
        face = generator.standard_normal(6)
        repeated = kind(np.tile(scale * face, (tokens, 1)))
        assert np.abs(anonymizer.distances(repeated) - anonymizer.distances(face)).max() < 1e-12

    def test_tensors_of_low_precision_are_accepted(self, codebook, feature):
        anonymizer = GroupIdentityAnonymizer(codebook, make_mechanism("window-rr", 1.0, GROUPS))
        tensor = torch.tensor(feature, dtype=torch.bfloat16, requires_grad=True)
        assert anonymizer.replacement(tensor).feature.shape == (DIM,)
        assert anonymizer.replacement(tensor[0]).feature.shape == (DIM,)

    def test_k_anonymity_gives_the_centre_of_the_farthest_group(self, codebook, feature):
        anonymizer = GroupIdentityAnonymizer(codebook, make_mechanism("k-anonymity", None, GROUPS))
        replacement = anonymizer.replacement(feature)
        farthest = int(np.argmax(anonymizer.distances(feature)))
        assert replacement.group == farthest
        centre = codebook.members[farthest].astype(np.float64).mean(axis=0)
        np.testing.assert_array_equal(replacement.feature, centre.astype(np.float32))
        assert replacement.epsilon == math.inf

    def test_laplace_comes_back_on_the_scale_of_the_codebook(self, codebook, feature):
        anonymizer = GroupIdentityAnonymizer(codebook, make_mechanism("laplace", 1.0, GROUPS))
        lengths = {
            round(float(np.linalg.norm(anonymizer.replacement(size * feature).feature)), 3)
            for size in (1, 1000)
        }
        assert lengths == {round(codebook.typical_norm, 3)}
        replacement = anonymizer.replacement(feature)
        assert replacement.group is None
        assert replacement.epsilon == math.inf
        assert not np.array_equal(replacement.feature, anonymizer.replacement(feature).feature)

    def test_a_replacement_cannot_be_changed(self, codebook, feature):
        anonymizer = GroupIdentityAnonymizer(codebook, make_mechanism("window-rr", 1.0, GROUPS))
        replacement = anonymizer.replacement(feature)
        with pytest.raises(ValueError, match="read-only"):
            replacement.feature[0] = 1
        with pytest.raises(AttributeError):
            replacement.epsilon = 0.0

    @pytest.mark.parametrize(
        "hostile",
        [
            np.full((14, DIM), np.nan),
            np.where(np.arange(14 * DIM).reshape(14, DIM) == 5, np.inf, 1.0),
            np.zeros((14, DIM)),
            np.vstack([np.ones((1, DIM)), -np.ones((1, DIM))]),
            np.full((14, DIM), 1.7e308),
            np.ones((14, DIM + 1)),
            np.ones((2, 14, DIM)),
            np.ones((0, DIM)),
            np.ones(()),
            np.ones((14, DIM), complex),
            np.array(["x"] * DIM),
            torch.full((14, DIM), float("-inf")),
            None,
        ],
        ids=HOSTILE_IDS,
    )
    @pytest.mark.parametrize("name", sorted(MECHANISMS))
    def test_hostile_features_are_refused_by_every_mechanism(self, name, hostile, codebook):
        anonymizer = GroupIdentityAnonymizer(codebook, make_mechanism(name, None, GROUPS))
        with pytest.raises(PrivacyError):
            anonymizer.replacement(hostile)

    def test_a_mechanism_for_another_codebook_is_refused(self, codebook):
        with pytest.raises(ConfigError, match=r"17 groups.*has 16"):
            GroupIdentityAnonymizer(codebook, Uniform(GROUPS + 1))

    @pytest.mark.parametrize(
        ("means", "members"),
        [
            (np.ones((4, 6)), np.ones((4, 5))),
            (np.ones((4, 6)), np.ones((3, 5, 6))),
            (np.ones((4, 6)), np.ones((4, 5, 7))),
            (np.ones((4, 6)), np.ones((4, 0, 6))),
            (np.ones((1, 6)), np.ones((1, 5, 6))),
            (np.ones(6), np.ones((4, 5, 6))),
            (np.zeros((4, 6)), np.ones((4, 5, 6))),
            (np.ones((4, 6)), np.full((4, 5, 6), np.nan)),
            (np.full((4, 6), np.inf), np.ones((4, 5, 6))),
            (np.full((4, 6), 1e300), np.ones((4, 5, 6))),
            ("means", np.ones((4, 5, 6))),
        ],
    )
    def test_a_damaged_codebook_is_refused(self, means, members):
        with pytest.raises(ConfigError, match="codebook"):
            Codebook(means, members)

    def test_a_codebook_is_a_read_only_copy(self):
        means, members = np.ones((2, 3)), np.ones((2, 1, 3))
        codebook = Codebook(torch.tensor(means), members)
        members[:] = 5
        assert (codebook.members == 1).all()
        with pytest.raises(ValueError, match="read-only"):
            codebook.means[0, 0] = 2


class TestAttributes:
    means = np.array([[1.0, 5.0, 0.0], [-1.0, 5.0, 0.0], [0.0, 5.0, 2.0]])

    def faces(self, content: int, count: int) -> np.ndarray:
        """(count, 3) features of one content."""
        noise = np.random.default_rng(content).standard_normal((count, 3))
        return self.means[content] + 0.2 * noise

    def test_farthest_is_a_bijection_on_two_contents(self):
        """Whoever knows the rule reads the original content off the replacement."""
        anonymizer = AttributeAnonymizer(self.means[:2], "farthest")
        for content in (0, 1):
            groups = {anonymizer.replacement(face).group for face in self.faces(content, 50)}
            assert groups == {1 - content}
        assert anonymizer.epsilon == math.inf
        assert anonymizer.guarantee == ("hides from people, not from someone who knows the method")

    @pytest.mark.parametrize("contents", [2, 3])
    @pytest.mark.parametrize("epsilon", [0.0, 1.0, 3.0])
    def test_randomized_has_the_table_of_k_ary_response(self, contents, epsilon):
        anonymizer = AttributeAnonymizer(self.means[:contents], "randomized", epsilon)
        for content in range(contents):
            distances = anonymizer.distances(self.means[content])
            table = anonymizer.mechanism.probabilities(distances)
            total = math.exp(epsilon) + contents - 1
            expected = np.full(contents, 1 / total)
            expected[content] = math.exp(epsilon) / total
            np.testing.assert_array_equal(np.round(table, 11), np.round(expected, 11))
        assert anonymizer.epsilon == epsilon

    def test_randomized_draws_from_its_table(self):
        anonymizer = AttributeAnonymizer(self.means, "randomized", 1.0)
        face = self.means[1]
        counts = np.bincount([anonymizer.replacement(face).group for _ in range(6_000)])
        table = anonymizer.mechanism.probabilities(anonymizer.distances(face))
        assert chisquare(counts, 6_000 * table).pvalue > 1e-6

    def test_uniform_draws_every_content_equally_whatever_the_face(self):
        anonymizer = AttributeAnonymizer(self.means, "uniform")
        assert anonymizer.epsilon == 0.0
        for face in self.means[:2]:
            table = anonymizer.mechanism.probabilities(anonymizer.distances(face))
            np.testing.assert_array_equal(table, np.full(len(self.means), 1 / len(self.means)))
            replacements = [anonymizer.replacement(face) for _ in range(3_000)]
            counts = np.bincount([replacement.group for replacement in replacements])
            assert chisquare(counts, 3_000 * table).pvalue > 1e-6
            for replacement in replacements[:10]:
                np.testing.assert_array_equal(
                    replacement.feature, self.means[replacement.group].astype(np.float32)
                )

    def test_neutral_is_the_same_for_every_face(self):
        anonymizer = AttributeAnonymizer(self.means, "neutral")
        replacements = [anonymizer.replacement(face) for face in self.faces(0, 3)]
        for replacement in replacements:
            np.testing.assert_array_equal(
                replacement.feature, self.means.mean(axis=0).astype(np.float32)
            )
            assert replacement.group is None
            assert replacement.epsilon == 0.0
        assert anonymizer.mechanism is None

    @pytest.mark.parametrize("rule", sorted(ATTRIBUTE_RULES))
    def test_replacement_carries_the_rule_and_its_label(self, rule):
        epsilon = 0.5 if rule == "randomized" else None
        replacement = AttributeAnonymizer(torch.tensor(self.means), rule, epsilon).replacement(
            torch.tensor(self.faces(0, 14))
        )
        assert replacement.mechanism == rule
        assert replacement.guarantee == ATTRIBUTE_RULES[rule]
        assert replacement.feature.shape == (3,)

    @pytest.mark.parametrize(("rule", "epsilon"), [("randomized", 1.0), ("uniform", None)])
    def test_a_seeded_sampler_takes_the_guarantee_away(self, insecure, rule, epsilon):
        anonymizer = AttributeAnonymizer(self.means, rule, epsilon, sampler=InsecureTestSampler(0))
        assert anonymizer.epsilon == math.inf
        assert anonymizer.guarantee.startswith("privacy: none")

    @pytest.mark.parametrize("rule", sorted(ATTRIBUTE_RULES))
    @pytest.mark.parametrize(
        "hostile",
        [np.zeros(3), np.full(3, np.nan), np.ones(4), np.ones((1, 1, 3)), None],
        ids=["zero", "NaN", "another dim", "three axes", "None"],
    )
    def test_hostile_features_are_refused(self, rule, hostile):
        epsilon = 0.5 if rule == "randomized" else None
        with pytest.raises(PrivacyError):
            AttributeAnonymizer(self.means, rule, epsilon).replacement(hostile)

    @pytest.mark.parametrize(
        ("means", "rule", "epsilon", "message"),
        [
            (np.ones((1, 3)), "neutral", None, "means has shape"),
            (np.ones(3), "neutral", None, "means has shape"),
            (np.full((2, 3), np.nan), "neutral", None, "means holds NaN"),
            (np.ones((2, 3)), "opposite", None, "one of uniform, farthest, randomized, neutral"),
            (np.ones((2, 3)), "randomized", None, "give one"),
            (np.ones((2, 3)), "farthest", 1.0, "leave it out"),
            (np.ones((2, 3)), "randomized", 21.0, "epsilon is"),
        ],
    )
    def test_bad_settings_are_refused(self, means, rule, epsilon, message):
        with pytest.raises(ConfigError, match=message):
            AttributeAnonymizer(means, rule, epsilon)


def test_the_privacy_room_does_not_import_torch():
    program = (
        "import sys, lreorg_fast as lf; lf.privacy.WindowRandomizedResponse(1.0, 8).draw(range(8));"
        "lf.KEYWORDS; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
