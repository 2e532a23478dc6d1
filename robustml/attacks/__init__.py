"""Evasion attacks: one paper a file, all of them `robustml.types.Attack`."""

from robustml.attacks.apgd import APGD
from robustml.attacks.autoattack import AutoAttack
from robustml.attacks.ddn import DDN
from robustml.attacks.engine.losses import Goal
from robustml.attacks.fab import FAB
from robustml.attacks.fgsm import FGSM
from robustml.attacks.fgsm_rs import FGSMRS
from robustml.attacks.fmn import FMN
from robustml.attacks.kl_pgd import KLPGD
from robustml.attacks.mifgsm import MIFGSM
from robustml.attacks.msd import MSD
from robustml.attacks.patch_pgd import PatchPGD
from robustml.attacks.pgd import PGD
from robustml.attacks.sparse_rs import SparseRS
from robustml.attacks.spatial import SpatialSearch
from robustml.attacks.square import Square
from robustml.attacks.torchattacks import TorchAttack, torchattacks_names
from robustml.attacks.transfer import Transfer
from robustml.attacks.universal import FixedPerturbation, UniversalPGD, craft_universal
from robustml.attacks.within import Within

__all__ = [
    "APGD",
    "DDN",
    "FAB",
    "FGSM",
    "FGSMRS",
    "FMN",
    "KLPGD",
    "MIFGSM",
    "MSD",
    "PGD",
    "AutoAttack",
    "FixedPerturbation",
    "Goal",
    "PatchPGD",
    "SparseRS",
    "SpatialSearch",
    "Square",
    "TorchAttack",
    "Transfer",
    "UniversalPGD",
    "Within",
    "craft_universal",
    "torchattacks_names",
]
