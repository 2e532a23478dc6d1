"""Say what loading a file could run, without loading it: an allow-list over the opcodes and names of pickles."""

from robustml.scanning.findings import Finding, Scanned
from robustml.scanning.scan import reason, scan

__all__ = ["Finding", "Scanned", "reason", "scan"]
