"""Forward and backward passes of a model, counted in examples: what a training method costs on any machine.

One gradient with respect to the input is one forward and one backward pass, and so is one with respect to the weights;
a gradient of a gradient is one more backward pass. Interval bounds go through the layers one by one, past the model
itself: they are not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


class PassCounter:
    """Counts the examples that pass a model in `counting` blocks, and those whose gradients pass back, even later.

    Attributes:
        forward: examples passed forward since the last reset.
        backward: examples passed backward since the last reset.
    """

    def __init__(self) -> None:
        self._counting = False
        self.reset()

    def reset(self) -> None:
        """Start again from zero."""
        self.forward = self.backward = 0

    def watch(self, model: nn.Module) -> Callable[[], None]:
        """Listen to every call of `model`, also through `torch.func.functional_call`, compiled or not.

        Returns:
            What ends it.
        """
        compiled = model._compiled_call_impl
        if compiled is None:

            def watching(model: nn.Module, inputs: Any, output: Any) -> None:
                self._passed(output)

            watching.only_watches = True  # type: ignore[attr-defined]  # interval bounds refuse hooks that may do more
            return model.register_forward_hook(watching).remove

        def listening(*inputs: Any, **named: Any) -> Any:
            output = compiled(*inputs, **named)
            self._passed(output)
            return output

        # A hook would be traced into the compiled graph, and recompiled with every count.
        model._compiled_call_impl = listening

        def end() -> None:
            model._compiled_call_impl = compiled

        return end

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count the forward passes of the block, and the backward passes through them, in it or after it."""
        self._counting = True
        try:
            yield
        finally:
            self._counting = False

    def _passed(self, output: Any) -> None:
        if not (self._counting and isinstance(output, Tensor)):
            return
        examples = len(output)
        self.forward += examples
        if output.requires_grad:
            output.register_hook(lambda gradient: self._passed_back(examples))  # type: ignore[no-untyped-call]

    def _passed_back(self, examples: int) -> None:
        self.backward += examples
