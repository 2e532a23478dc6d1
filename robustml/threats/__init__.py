"""Threat models: what an attacker may do to one input. One kind a file, all of them `robustml.types.Threat`."""

from robustml.threats.lp import LpBall
from robustml.threats.patch import Patch
from robustml.threats.sparse import SparseBall
from robustml.threats.spatial import Spatial
from robustml.threats.union import Union

__all__ = ["LpBall", "Patch", "SparseBall", "Spatial", "Union"]
