"""Equation solving: a linear classifier is written down from its probabilities, not learned.

Tramer, Zhang, Juels, Reiter, Ristenpart, "Stealing machine learning models via prediction APIs", USENIX Security 2016,
arXiv:1609.02943. The logarithms of a softmax model's probabilities are its logits up to a constant, and these are
linear in the input: every query gives C - 1 equations in the (d + 1)(C - 1) unknowns, so that d + 1 queries in general
position are enough, and more of them average rounding away. Deviation: the paper minimises the cross-entropy of a
softmax model; here the equations are solved by least squares in float64, which needs no training.

Probabilities of 0, which have no logarithm, count as half the smallest that was answered: where an interface rounds or
tells labels only, the equations are wrong, and what comes out is the linear classifier that fits them best.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, nn

from robustml.extraction.method import MakeStudent, Pool, Transcript, ask
from robustml.extraction.victim import Victim
from robustml.models import MLP


@dataclass(frozen=True)
class EquationSolving:
    """Solves for the weights of a softmax regression; the student is not asked for."""

    def ask(
        self, victim: Victim, pool: Pool, make_student: MakeStudent, *, generator: Generator | None = None
    ) -> Transcript:
        """The pool, in its order; noise is in general position, real images may not be."""
        return ask(victim, pool.x)

    @torch.no_grad()
    def fit(self, heard: Transcript, make_student: MakeStudent, *, generator: Generator | None = None) -> nn.Module:
        """A linear model, its weights summing to 0 over the classes: the constant that a softmax hides is taken so."""
        answers = heard.answers.double().cpu()
        logarithms = answers.clamp_min(answers[answers > 0].min() / 2).log()
        logits = logarithms - logarithms.mean(dim=1, keepdim=True)
        inputs = heard.x.flatten(1).double().cpu()
        unknowns = torch.cat([inputs, torch.ones(len(inputs), 1, dtype=torch.float64)], dim=1)
        # gelsd takes systems without full rank, and gives their smallest solution
        solution = torch.linalg.lstsq(unknowns, logits, driver="gelsd").solution
        with torch.random.fork_rng(devices=[]):  # the weights that it draws are overwritten
            copy = MLP(heard.x.shape[1:], answers.shape[1], hidden=())
        layer = copy.layers[-1]
        assert isinstance(layer, nn.Linear)
        layer.weight.copy_(solution[:-1].T)
        layer.bias.copy_(solution[-1])
        return copy.to(heard.x.device).eval()
