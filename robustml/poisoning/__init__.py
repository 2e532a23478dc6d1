"""What changes the training set: manipulation, backdoors, shortcuts, feedback rounds. One paper a file."""

from robustml.poisoning.apply import apply_plan, backdoor_of, poison_training
from robustml.poisoning.backdoors.badnets import BadNets
from robustml.poisoning.backdoors.blended import Blended
from robustml.poisoning.backdoors.gradient_matching import GradientMatching
from robustml.poisoning.backdoors.input_aware import InputAware
from robustml.poisoning.backdoors.label_consistent import LabelConsistent
from robustml.poisoning.backdoors.shortcuts import Shortcut
from robustml.poisoning.backdoors.sig import SIG
from robustml.poisoning.backdoors.single_pixel import SinglePixel
from robustml.poisoning.backdoors.wanet import WaNet
from robustml.poisoning.chain import Chain, recalled
from robustml.poisoning.feedback import (
    Cusum,
    FeedbackRound,
    Mailbox,
    PreviousRound,
    last_trusted,
    linear_filter,
    simulate_feedback,
)
from robustml.poisoning.manipulation.add import Add
from robustml.poisoning.manipulation.change import Change
from robustml.poisoning.manipulation.delete import Delete
from robustml.poisoning.manipulation.flip import Flip
from robustml.poisoning.manipulation.inject import InjectAdversarial
from robustml.poisoning.manipulation.noise import Noise
from robustml.poisoning.plan import Backdoor, Poison, PoisonPlan, Triggered, kind_of, planned
from robustml.poisoning.plan_file import read_learned, read_plan, write_plan
from robustml.poisoning.triggers import FourCorners, Logo, Pattern, Square, Trigger, WholePicture

__all__ = [
    "SIG",
    "Add",
    "Backdoor",
    "BadNets",
    "Blended",
    "Chain",
    "Change",
    "Cusum",
    "Delete",
    "FeedbackRound",
    "Flip",
    "FourCorners",
    "GradientMatching",
    "InjectAdversarial",
    "InputAware",
    "LabelConsistent",
    "Logo",
    "Mailbox",
    "Noise",
    "Pattern",
    "Poison",
    "PoisonPlan",
    "PreviousRound",
    "Shortcut",
    "SinglePixel",
    "Square",
    "Trigger",
    "Triggered",
    "WaNet",
    "WholePicture",
    "apply_plan",
    "backdoor_of",
    "kind_of",
    "last_trusted",
    "linear_filter",
    "planned",
    "poison_training",
    "read_learned",
    "read_plan",
    "recalled",
    "simulate_feedback",
    "write_plan",
]
