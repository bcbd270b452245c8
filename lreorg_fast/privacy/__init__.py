"""The privacy room: mechanisms, anonymizers and the epsilon ledger.

What is guaranteed, for what, and what is not: docs/privacy.md. Importing this needs numpy only;
tensors are accepted wherever a feature or distances are asked for.
"""

from __future__ import annotations

from lreorg_fast.privacy.attributes import ATTRIBUTE_RULES, AttributeAnonymizer
from lreorg_fast.privacy.identity import Codebook, GroupIdentityAnonymizer
from lreorg_fast.privacy.keys import PassphraseCost, PrivateKey, PublicKey
from lreorg_fast.privacy.labelled import KAnonymityFarthest, LaplaceFeature, PaperWindow
from lreorg_fast.privacy.ledger import Ledger, json_epsilon, picture_statement
from lreorg_fast.privacy.ledger_file import LedgerFile
from lreorg_fast.privacy.mechanisms import (
    DEFAULT_EPSILON,
    MAX_EPSILON,
    GroupMechanism,
    Mechanism,
    Uniform,
    WindowRandomizedResponse,
    default_window,
)
from lreorg_fast.privacy.people import PeopleFile
from lreorg_fast.privacy.pseudonyms import Pseudonyms
from lreorg_fast.privacy.randomness import InsecureTestSampler, PseudonymSampler, SystemSampler
from lreorg_fast.privacy.rank_weights import RankWeights
from lreorg_fast.privacy.registry import (
    DEFAULT_MECHANISM,
    MECHANISMS,
    MechanismEntry,
    make_mechanism,
)
from lreorg_fast.privacy.replacement import Replacement
from lreorg_fast.privacy.sealed import Original, seal, unseal
from lreorg_fast.privacy.subjects import Subject, Subjects

__all__ = [
    "ATTRIBUTE_RULES",
    "DEFAULT_EPSILON",
    "DEFAULT_MECHANISM",
    "MAX_EPSILON",
    "MECHANISMS",
    "AttributeAnonymizer",
    "Codebook",
    "GroupIdentityAnonymizer",
    "GroupMechanism",
    "InsecureTestSampler",
    "KAnonymityFarthest",
    "LaplaceFeature",
    "Ledger",
    "LedgerFile",
    "Mechanism",
    "MechanismEntry",
    "Original",
    "PaperWindow",
    "PassphraseCost",
    "PeopleFile",
    "PrivateKey",
    "PseudonymSampler",
    "Pseudonyms",
    "PublicKey",
    "RankWeights",
    "Replacement",
    "Subject",
    "Subjects",
    "SystemSampler",
    "Uniform",
    "WindowRandomizedResponse",
    "default_window",
    "json_epsilon",
    "make_mechanism",
    "picture_statement",
    "seal",
    "unseal",
]
