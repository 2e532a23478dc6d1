"""Detectors of poisoned records and of backdoored models, one paper a file."""

from robustml.defenses.detect.mm_bd import MMBD
from robustml.defenses.detect.neural_cleanse import NeuralCleanse
from robustml.defenses.detect.patch_search import PatchSearch
from robustml.defenses.detect.shortcut_search import ShortcutSearch
from robustml.defenses.detect.strip import STRIP

__all__ = ["MMBD", "STRIP", "NeuralCleanse", "PatchSearch", "ShortcutSearch"]
