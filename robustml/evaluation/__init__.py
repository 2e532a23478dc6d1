"""How robust a model is: the evaluator, curves over eps, and the flags that say when not to believe them."""

from robustml.evaluation.certification import (
    ABSTAINED,
    Certificates,
    CertifiedResults,
    Certifier,
    IntervalBoundPropagation,
    Smoothing,
    certify,
    require_norm,
)
from robustml.evaluation.corruption import corruption_accuracy
from robustml.evaluation.curve import CurveResults, accuracy_curve
from robustml.evaluation.evaluator import evaluate
from robustml.evaluation.marks import backdoor_success, shortcut_reliance
from robustml.evaluation.parameters import attack_parameters
from robustml.evaluation.results import RobustnessResults
from robustml.evaluation.shortcuts import find_shortcuts
from robustml.evaluation.verdicts import AttackVerdicts, Verdicts
from robustml.evaluation.worst_case import united

__all__ = [
    "ABSTAINED",
    "AttackVerdicts",
    "Certificates",
    "CertifiedResults",
    "Certifier",
    "CurveResults",
    "IntervalBoundPropagation",
    "RobustnessResults",
    "Smoothing",
    "Verdicts",
    "accuracy_curve",
    "attack_parameters",
    "backdoor_success",
    "certify",
    "corruption_accuracy",
    "evaluate",
    "find_shortcuts",
    "require_norm",
    "shortcut_reliance",
    "united",
]
