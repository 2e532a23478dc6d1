"""Stealing a model through its query interface, and what that interface can do about it. One paper a file."""

from robustml.extraction.copycat import Copycat
from robustml.extraction.defenses import Defended, Defense, Rounding, TopLabel
from robustml.extraction.equation_solving import EquationSolving
from robustml.extraction.http_victim import HttpVictim
from robustml.extraction.jacobian import JacobianAugmentation
from robustml.extraction.knockoff import Knockoff
from robustml.extraction.measure import budget_curve, honest_use, judge_copy, labels_of, sabotage
from robustml.extraction.method import Extraction, steal
from robustml.extraction.output_noise import OutputNoise
from robustml.extraction.pools import AnotherSet, InDomain, NaturalImages, Noise, Pool
from robustml.extraction.prada import Prada
from robustml.extraction.reverse_sigmoid import ReverseSigmoid
from robustml.extraction.student import StudentTraining
from robustml.extraction.transcript import Transcript, ask
from robustml.extraction.victim import BudgetSpent, ModelVictim, QueriesRefused, Victim

__all__ = [
    "AnotherSet",
    "BudgetSpent",
    "Copycat",
    "Defended",
    "Defense",
    "EquationSolving",
    "Extraction",
    "HttpVictim",
    "InDomain",
    "JacobianAugmentation",
    "Knockoff",
    "ModelVictim",
    "NaturalImages",
    "Noise",
    "OutputNoise",
    "Pool",
    "Prada",
    "QueriesRefused",
    "ReverseSigmoid",
    "Rounding",
    "StudentTraining",
    "TopLabel",
    "Transcript",
    "Victim",
    "ask",
    "budget_curve",
    "honest_use",
    "judge_copy",
    "labels_of",
    "sabotage",
    "steal",
]
