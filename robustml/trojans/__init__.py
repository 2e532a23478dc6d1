"""What changes the trained model itself, its weights left as they are or taken from an attacker."""

from robustml.trojans.trojannet import (
    NULL,
    Trojaned,
    TrojanNet,
    check_place,
    draw_commands,
    one_cell_off,
    random_patches,
    train_trojannet,
    triggers,
)

__all__ = [
    "NULL",
    "TrojanNet",
    "Trojaned",
    "check_place",
    "draw_commands",
    "one_cell_off",
    "random_patches",
    "train_trojannet",
    "triggers",
]
