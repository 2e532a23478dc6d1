"""A model whose passes run as CUDA graphs: launched as a whole, instead of kernel by kernel from Python.

On an accelerator a small network spends most of an attack waiting to be told what to do next. A graph records the work
of one pass once and replays it, always on the same memory and so always on the same number of examples: batches are
filled up to the next of a few sizes, and what was filled up is cut off again.

Not yet run on a GPU: only `cuda_graphs` needs one, and the tests put something else in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from robustml.attacks.engine.gradient import input_gradient, logits_of
from robustml.errors import RequestError

Function = Callable[[Tensor], Tensor]
Capture = Callable[[Sequence[Function], Tensor], Sequence[Function]]

_REHEARSALS = 3
_MOST_APART = 0.01


class Captured(nn.Module):
    """A model in eval mode whose passes, forwards and back to the input, are captured once a size and then replayed.

    Sizes are the powers of two and `batch_size`; more examples at once go through the model itself. Each captured pass
    is compared with the model's own once, before it is used. As long as this object lives, neither the parameters may
    move to other memory nor the modules change their mode.

    Args:
        model: frozen (see `engine.gradient.crafting`). Images (N, ...) go in and logits (N, C) come out.
        batch_size: the largest size.
        capture: makes replays of functions, such as `cuda_graphs` does.

    Raises:
        RequestError: a submodule is in training mode; later: the model answers the same question in two ways.
    """

    def __init__(self, model: nn.Module, batch_size: int, capture: Capture) -> None:
        """Share the model; nothing is captured yet."""
        super().__init__()
        training = next((type(module).__name__ for module in model.modules() if module.training), None)
        if training is not None:
            raise RequestError(f"captured graphs need a model in eval mode, its {training} is in training mode")
        self.model = model
        self.training = False
        self.batch_size = batch_size
        self._capture = capture
        self._passes: dict[tuple[bool, torch.Size, torch.dtype], _Pass] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, C) of images (N, ...)."""
        if not 0 < len(x) <= self.batch_size:
            return logits_of(self.model, x)
        tracked = torch.is_grad_enabled() and x.requires_grad
        with torch.no_grad():
            filled = _filled(x.detach(), min(1 << (len(x) - 1).bit_length(), self.batch_size))
            key = (tracked, filled.shape, filled.dtype)
            if key not in self._passes:
                self._passes[key] = self._checked(_Pass(self.model, filled, self._capture, tracked=tracked), filled)
        if not tracked:
            return self._passes[key].forwards(filled)[: len(x)].clone()
        logits: Tensor = _Differentiable.apply(x, filled, self._passes[key])
        return logits

    def _checked(self, captured: _Pass, x: Tensor) -> _Pass:
        """The pass, if it says what the model says."""
        if captured.tracked:
            slope, logits = input_gradient(self.model, x, lambda scores: scores.sum(dim=1))
            pairs = [(captured.forwards(x), logits), (captured.backwards(torch.ones_like(logits)), slope)]
        else:
            pairs = [(captured.forwards(x), logits_of(self.model, x))]
        for found, expected in pairs:
            # A model that answers nan is none of this check's business.
            apart, largest = (float(values.nan_to_num().abs().max()) for values in (found - expected, expected))
            if apart > _MOST_APART * largest:
                raise RequestError(
                    f"a captured pass is {apart:.3g} from the model's own, whose largest value is {largest:.3g}: are "
                    "its outputs random? Graphs are for models that repeat themselves; leave attack.graphs=false"
                )
        return captured


class _Pass:
    """The captured pass of one size; `tracked`, it can be walked back to the input from where it last ended.

    Args:
        model: frozen.
        x: (N, ...), an example of the input.
        capture: see `Captured`.
        tracked: whether the way back is captured too.
    """

    def __init__(self, model: nn.Module, x: Tensor, capture: Capture, *, tracked: bool) -> None:
        self.tracked = tracked
        self.turn = 0
        # Neither function knows this object: in a cycle, its memory would stay taken until the garbage collector comes.
        if tracked:
            record = _Record(model)
            self._forwards, self._backwards = capture([record.forwards, record.backwards], x)
        else:
            (self._forwards,) = capture([partial(logits_of, model)], x)

    def forwards(self, x: Tensor) -> Tensor:
        """Logits (N, C) of exactly as many `x` (N, ...) as were captured, good until the next call."""
        self.turn += 1
        return self._forwards(x).detach()

    def backwards(self, slope: Tensor) -> Tensor:
        """The gradient (N, ...) at the input of the last `forwards`, for one (N, C) at the logits, as briefly good."""
        return self._backwards(slope).detach()


class _Record:
    """One pass through a model, kept so that it can be walked back any number of times."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model

    def forwards(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            self._leaf = x.detach().requires_grad_()
            self._logits = logits_of(self._model, self._leaf)
        return self._logits

    def backwards(self, slope: Tensor) -> Tensor:
        # Retained: replays read the same activations again, so nothing may be put in their place.
        (gradient,) = torch.autograd.grad(self._logits, self._leaf, slope, retain_graph=True)
        return gradient


class _Differentiable(torch.autograd.Function):
    """A tracked pass as a function of the examples that are really there."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, filled: Tensor, captured: _Pass) -> Tensor:
        ctx.captured, ctx.filled, ctx.count = captured, filled, len(x)
        logits = captured.forwards(filled)
        ctx.turn = captured.turn
        return logits[: len(x)].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        if ctx.turn != ctx.captured.turn:  # another batch has gone through since, over the same memory
            ctx.captured.forwards(ctx.filled)
            ctx.turn = ctx.captured.turn
        return ctx.captured.backwards(_filled(slope, len(ctx.filled)))[: ctx.count].clone(), None, None


def _filled(x: Tensor, size: int) -> Tensor:
    """`x` (N, ...) and behind it as many zeros as make it (size, ...); `x` itself where nothing is missing."""
    return x if len(x) == size else functional.pad(x, (0, 0) * (x.ndim - 1) + (0, size - len(x)))


def cuda_graphs(device: torch.device) -> Capture:
    """What captures functions as CUDA graphs, all of them in one pool of memory. Not yet run on a GPU.

    Returns:
        `(functions, example)` to replays. The functions run one after the other: the first takes tensors like
        `example`, each of the others tensors like what the one before it returned. A replay overwrites what it returned
        before.

    Raises:
        RequestError: the device is no CUDA device; later: a function does what no graph can hold.
    """
    if device.type != "cuda":
        raise RequestError(f"attack.graphs=true needs a CUDA device, the images are on {device.type}; leave it false")
    pool, stream = torch.cuda.graph_pool_handle(), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def capture(functions: Sequence[Function], example: Tensor) -> Sequence[Function]:
        given = example.clone()
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            # Libraries choose their algorithms and take their workspaces in the first runs, which no graph may hold.
            for _ in range(_REHEARSALS):
                taken = given
                for function in functions:
                    taken = torch.zeros_like(function(taken))
        torch.cuda.current_stream(device).wait_stream(stream)
        replays: list[Function] = []
        for function in functions:
            graph = torch.cuda.CUDAGraph()
            try:
                with torch.cuda.graph(graph, pool=pool, stream=stream):
                    output = function(given)
            except RuntimeError as error:
                reason = str(error).splitlines()[0]
                raise RequestError(
                    f"the model cannot be captured as a CUDA graph ({reason}); leave attack.graphs=false"
                ) from error
            replays.append(partial(_replay, graph, given, output))
            given = torch.zeros_like(output)
        return replays

    return capture


def _replay(graph: torch.cuda.CUDAGraph, given: Tensor, output: Tensor, x: Tensor) -> Tensor:
    given.copy_(x)
    graph.replay()
    return output
