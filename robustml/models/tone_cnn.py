"""A one-dimensional network for short waveforms, small enough for adversarial training in seconds on two CPU cores.

Ours, after no paper.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from robustml.errors import RequestError
from robustml.models.network import at_least_1, check_num_classes
from robustml.models.normalize import PerChannel, normalization


class ToneCNN(nn.Module):
    """Three padded convolutions of 9 samples with stride 4, the mean over time, then Linear. PyTorch's default init.

    The mean makes it heed what sounds and not when, and lets it take waveforms of any length. Arguments as of
    `Network`.

    Args:
        shape: (C, T) of the waveforms, such as (1, 1024).
        width: channels of the first convolution; the second and third have twice and four times as many.
    """

    def __init__(
        self,
        shape: Sequence[int] = (1, 1024),
        num_classes: int = 6,
        mean: PerChannel = None,
        std: PerChannel = None,
        width: int = 16,
    ) -> None:
        super().__init__()
        if len(shape) != 2 or min(shape) < 1:
            raise RequestError(
                f"this network takes waveforms: expected shape=(channels, samples), each at least 1; got {tuple(shape)}"
            )
        at_least_1("width", width)
        self.normalize = normalization(shape[0], mean, std)
        self.features = nn.Sequential(
            nn.Conv1d(shape[0], width, 9, stride=4, padding=4),
            nn.ReLU(),
            nn.Conv1d(width, 2 * width, 9, stride=4, padding=4),
            nn.ReLU(),
            nn.Conv1d(2 * width, 4 * width, 9, stride=4, padding=4),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(4 * width, check_num_classes(num_classes))

    def forward(self, x: Tensor) -> Tensor:
        """Waveforms (N, C, T) in [0, 1] to logits (N, num_classes)."""
        logits: Tensor = self.classifier(self.features(self.normalize(x)).mean(dim=2))
        return logits
