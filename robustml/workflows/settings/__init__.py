"""The settings of a run: read from strangers, written, built into objects, and objects described as settings."""

from robustml.workflows.settings.files import CONFIG, leaves, read_settings, write_settings

__all__ = ["CONFIG", "leaves", "read_settings", "write_settings"]
