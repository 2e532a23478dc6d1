"""How robust a model is: the evaluator, curves over eps, and the flags that say when not to believe them."""

from robustml.evaluation.certificates import ABSTAINED, Certificates, Certifier
from robustml.evaluation.certify import CertifiedResults, certify
from robustml.evaluation.corruption import CorruptionResults, corruption_accuracy
from robustml.evaluation.curve import Curve, accuracy_curve
from robustml.evaluation.evaluator import attack_parameters, evaluate
from robustml.evaluation.examples import Examples
from robustml.evaluation.interval_bounds import IntervalBoundPropagation
from robustml.evaluation.results import RobustnessResults
from robustml.evaluation.sanity import Flag
from robustml.evaluation.smoothing import Smoothing
from robustml.evaluation.verdicts import AttackVerdicts, Verdicts

__all__ = [
    "ABSTAINED",
    "AttackVerdicts",
    "Certificates",
    "CertifiedResults",
    "Certifier",
    "CorruptionResults",
    "Curve",
    "Examples",
    "Flag",
    "IntervalBoundPropagation",
    "RobustnessResults",
    "Smoothing",
    "Verdicts",
    "accuracy_curve",
    "attack_parameters",
    "certify",
    "corruption_accuracy",
    "evaluate",
]
