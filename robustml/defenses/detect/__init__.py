"""Detectors of poisoned records and of backdoored models, one paper a file."""

from robustml.defenses.detect.activation_clustering import ActivationClustering
from robustml.defenses.detect.beatrix import Beatrix
from robustml.defenses.detect.label_quality import LabelQuality
from robustml.defenses.detect.mm_bd import MMBD
from robustml.defenses.detect.near_duplicates import NearDuplicates
from robustml.defenses.detect.neural_cleanse import NeuralCleanse
from robustml.defenses.detect.order import RecordOrder
from robustml.defenses.detect.outliers import Outliers
from robustml.defenses.detect.patch_search import PatchSearch
from robustml.defenses.detect.scale_up import ScaleUp
from robustml.defenses.detect.shortcut_search import ShortcutSearch
from robustml.defenses.detect.spectral import SpectralSignatures
from robustml.defenses.detect.strip import STRIP

__all__ = [
    "MMBD",
    "STRIP",
    "ActivationClustering",
    "Beatrix",
    "LabelQuality",
    "NearDuplicates",
    "NeuralCleanse",
    "Outliers",
    "PatchSearch",
    "RecordOrder",
    "ScaleUp",
    "ShortcutSearch",
    "SpectralSignatures",
]
