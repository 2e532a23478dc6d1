"""What every attack and every objective has to keep to: tables of properties, for the tests and `robustml check`."""

from robustml.evaluation.conformance.check import PROPERTIES, Finding, Outcome, check_attack, check_objective
from robustml.evaluation.conformance.objective import OBJECTIVE_PROPERTIES

__all__ = ["OBJECTIVE_PROPERTIES", "PROPERTIES", "Finding", "Outcome", "check_attack", "check_objective"]
