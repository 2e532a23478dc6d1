"""Detectors of poisoned records and of backdoored models, one paper a file."""

from robustml.defenses.detect.strip import STRIP

__all__ = ["STRIP"]
