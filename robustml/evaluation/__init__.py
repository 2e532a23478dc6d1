"""How robust a model is: the evaluator, curves over eps, and the flags that say when not to believe them."""

from robustml.evaluation.backdoor import BackdoorResults, backdoor_success
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
from robustml.evaluation.corruption import CorruptionResults, corruption_accuracy
from robustml.evaluation.curve import Curve, accuracy_curve
from robustml.evaluation.evaluator import evaluate
from robustml.evaluation.examples import Examples
from robustml.evaluation.parameters import attack_parameters
from robustml.evaluation.results import RobustnessResults
from robustml.evaluation.sanity.model import Flag
from robustml.evaluation.shortcuts import ShortcutResults, ShortcutSuspect, find_shortcuts, shortcut_reliance
from robustml.evaluation.verdicts import AttackVerdicts, Verdicts
from robustml.evaluation.worst_case import united

__all__ = [
    "ABSTAINED",
    "AttackVerdicts",
    "BackdoorResults",
    "Certificates",
    "CertifiedResults",
    "Certifier",
    "CorruptionResults",
    "Curve",
    "Examples",
    "Flag",
    "IntervalBoundPropagation",
    "RobustnessResults",
    "ShortcutResults",
    "ShortcutSuspect",
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
