"""Evasion attacks: one paper a file, all of them `robustml.types.Attack`."""

from robustml.attacks.fgsm import FGSM
from robustml.attacks.fgsm_rs import FGSMRS
from robustml.attacks.losses import Goal
from robustml.attacks.mifgsm import MIFGSM
from robustml.attacks.pgd import PGD
from robustml.attacks.rescale import at_eps
from robustml.attacks.torchattacks import TorchAttack, torchattacks_names

__all__ = ["FGSM", "FGSMRS", "MIFGSM", "PGD", "Goal", "TorchAttack", "at_eps", "torchattacks_names"]
