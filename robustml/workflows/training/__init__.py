"""What `robustml train` and `robustml.fit` do once their settings are known."""

from robustml.workflows.training.train import build_module, build_trainer, train

__all__ = ["build_module", "build_trainer", "train"]
