"""Repairs of backdoored models, one paper a file."""

from robustml.defenses.repair.abl import AntiBackdoorLearning
from robustml.defenses.repair.clp import ChannelLipschitzPruning
from robustml.defenses.repair.filter_and_retrain import FilterAndRetrain
from robustml.defenses.repair.fine_pruning import FinePruning
from robustml.defenses.repair.fine_tuning import FineTuning
from robustml.defenses.repair.ft_sam import FTSAM
from robustml.defenses.repair.i_bau import IBAU
from robustml.defenses.repair.mode_connectivity import ModeConnectivity, Path
from robustml.defenses.repair.nad import NAD
from robustml.defenses.repair.reactivation import reactivated, searched
from robustml.defenses.repair.tuning import Tuning

__all__ = [
    "FTSAM",
    "IBAU",
    "NAD",
    "AntiBackdoorLearning",
    "ChannelLipschitzPruning",
    "FilterAndRetrain",
    "FinePruning",
    "FineTuning",
    "ModeConnectivity",
    "Path",
    "Tuning",
    "reactivated",
    "searched",
]
