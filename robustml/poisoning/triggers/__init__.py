"""Marks that are put on inputs: what a backdoor listens to."""

from robustml.poisoning.triggers.four_corners import FourCorners
from robustml.poisoning.triggers.stamps import Logo, Pattern, Square
from robustml.poisoning.triggers.trigger import Trigger
from robustml.poisoning.triggers.whole_picture import WholePicture

__all__ = ["FourCorners", "Logo", "Pattern", "Square", "Trigger", "WholePicture"]
