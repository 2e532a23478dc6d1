"""Repairs of backdoored models, one paper a file."""

from robustml.defenses.repair.fine_pruning import FinePruning
from robustml.defenses.repair.fine_tuning import FineTuning
from robustml.defenses.repair.tuning import Tuning

__all__ = ["FinePruning", "FineTuning", "Tuning"]
