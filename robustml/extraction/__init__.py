"""Copying a model through its query interface, and what that interface can do about it. One paper a file."""

from robustml.extraction.copycat import Copycat
from robustml.extraction.defenses import Rounding, TopLabel
from robustml.extraction.endpoint import HttpVictim, Limits
from robustml.extraction.equation_solving import EquationSolving
from robustml.extraction.jacobian import JacobianAugmentation
from robustml.extraction.knockoff import Knockoff
from robustml.extraction.measure import Reference, budget_curve, honest_use, judge_copy, labels_of, transfer_success
from robustml.extraction.method import Extraction, MakeStudent, Pool, Transcript, ask
from robustml.extraction.output_noise import OutputNoise
from robustml.extraction.pools import AnotherSet, InDomain, NaturalImages, Noise, PoolSource
from robustml.extraction.prada import Prada
from robustml.extraction.reverse_sigmoid import ReverseSigmoid
from robustml.extraction.student import StudentTraining
from robustml.extraction.victim import BudgetSpent, Defense, ModelVictim, QueriesRefused, Victim, Watch

__all__ = [
    "AnotherSet",
    "BudgetSpent",
    "Copycat",
    "Defense",
    "EquationSolving",
    "Extraction",
    "HttpVictim",
    "InDomain",
    "JacobianAugmentation",
    "Knockoff",
    "Limits",
    "MakeStudent",
    "ModelVictim",
    "NaturalImages",
    "Noise",
    "OutputNoise",
    "Pool",
    "PoolSource",
    "Prada",
    "QueriesRefused",
    "Reference",
    "ReverseSigmoid",
    "Rounding",
    "StudentTraining",
    "TopLabel",
    "Transcript",
    "Victim",
    "Watch",
    "ask",
    "budget_curve",
    "honest_use",
    "judge_copy",
    "labels_of",
    "transfer_success",
]
