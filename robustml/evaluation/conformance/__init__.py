"""What every attack has to keep to: one table of properties, which the tests and `robustml check` go through."""

from robustml.evaluation.conformance.check import PROPERTIES, Finding, Outcome, check_attack

__all__ = ["PROPERTIES", "Finding", "Outcome", "check_attack"]
