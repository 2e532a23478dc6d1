"""How robust a model is: the evaluator, curves over eps, and the flags that say when not to believe them."""

from robustml.evaluation.curve import Curve, accuracy_curve
from robustml.evaluation.evaluator import attack_parameters, evaluate
from robustml.evaluation.examples import Examples
from robustml.evaluation.results import RobustnessResults
from robustml.evaluation.sanity import Flag
from robustml.evaluation.verdicts import AttackVerdicts, Verdicts

__all__ = [
    "AttackVerdicts",
    "Curve",
    "Examples",
    "Flag",
    "RobustnessResults",
    "Verdicts",
    "accuracy_curve",
    "attack_parameters",
    "evaluate",
]
