"""What changes the training set: manipulation, backdoors, shortcuts, feedback rounds. One paper a file."""

from robustml.poisoning.add import Add
from robustml.poisoning.apply import backdoor_of, poison_training
from robustml.poisoning.badnets import BadNets
from robustml.poisoning.blended import Blended, WholePicture
from robustml.poisoning.chain import Chain
from robustml.poisoning.change import Change
from robustml.poisoning.delete import Delete
from robustml.poisoning.feedback import (
    Cusum,
    FeedbackRound,
    Mailbox,
    PreviousRound,
    last_trusted,
    linear_filter,
    simulate_feedback,
)
from robustml.poisoning.flip import Flip
from robustml.poisoning.gradient_matching import GradientMatching
from robustml.poisoning.inject import InjectAdversarial
from robustml.poisoning.input_aware import InputAware
from robustml.poisoning.label_consistent import FourCorners, LabelConsistent
from robustml.poisoning.manifest import Manifest, compare
from robustml.poisoning.noise import Noise
from robustml.poisoning.poison import Backdoor, Poison, Poisoned, Presented
from robustml.poisoning.shortcuts import Shortcut
from robustml.poisoning.sig import SIG
from robustml.poisoning.single_pixel import SinglePixel
from robustml.poisoning.trigger import Logo, Pattern, Square, Trigger
from robustml.poisoning.wanet import WaNet

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
    "Manifest",
    "Noise",
    "Pattern",
    "Poison",
    "Poisoned",
    "Presented",
    "PreviousRound",
    "Shortcut",
    "SinglePixel",
    "Square",
    "Trigger",
    "WaNet",
    "WholePicture",
    "backdoor_of",
    "compare",
    "last_trusted",
    "linear_filter",
    "poison_training",
    "simulate_feedback",
]
