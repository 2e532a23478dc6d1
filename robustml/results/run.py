"""What results.json says of the run itself: data, poison, model, threat, cost, environment, which epoch was kept."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator

from robustml.numbers import eps_text, norm_text
from robustml.results.poison import PoisonSummary
from robustml.results.rates import Amount, Block, Count, Fraction


class SelectedEpoch(Block):
    """An epoch (from 1), the step after which it was measured, and its validation figures.

    Accuracy under attack is that of the attack that training measures with, not of the test's.
    """

    epoch: Count
    step: Count
    clean_accuracy: Fraction | None = None
    adversarial_accuracy: Fraction | None = None
    train_adversarial_accuracy: Fraction | None = None


class Selection(Block):
    """Which epoch was kept and why, beside the last one."""

    monitor: str
    best: SelectedEpoch
    last: SelectedEpoch


def _norm_name(norm: object) -> object:
    """Let a number through as its name: YAML turns `norm: 2` and `norm: .inf` into numbers."""
    if isinstance(norm, bool) or not isinstance(norm, (int, float)):
        return norm
    return f"{norm:g}"


class Threat(Block):
    """The budget of the attacker: a norm ("inf", "2", "1", ...) and its bound, images in [0, 1]."""

    norm: Annotated[str, BeforeValidator(_norm_name)]
    eps: Amount

    @classmethod
    def of(cls, threat: Any) -> Threat:
        """What is written of a threat (`robustml.types.Threat`): one without a norm goes by the name of its class."""
        return cls(norm=getattr(threat, "norm", type(threat).__name__), eps=threat.eps)

    def __str__(self) -> str:
        return f"{norm_text(self.norm)} eps {eps_text(self.eps)}"


class ExtraData(Block):
    """Examples trained on beside the set's own: how many, and their share of each batch."""

    train: Count
    ratio: Fraction


class SignedData(Block):
    """What vouched for the data when they were used: a manifest, by its Merkle root, and who signed it.

    `place` is where it lay, as the user named it; `verified` is "start" or "always"; `healed` counts the files that
    were restored first.
    """

    root: str
    name: str
    place: str
    series: str
    serial: Count
    signed_by: str | None = None
    key: str | None = None
    verified: str
    healed: Count = 0


class DataFacts(Block):
    """Which data set, its fingerprint and those of its splits, their sizes, and how it was poisoned, if it was.

    `left_out` counts test examples that the model was trained or selected on, since the set has changed; `excluded`
    training examples that were not trained on, since a file names them. `manifest` is what the data were verified
    against.
    """

    name: str
    fingerprint: str | None = None
    fingerprints: dict[str, str] | None = None
    train: Count | None = None
    val: Count | None = None
    test: Count | None = None
    poison: PoisonSummary | None = None
    left_out: Count | None = None
    excluded: Count | None = None
    manifest: SignedData | None = None
    extra: ExtraData | None = None


class ModelFacts(Block):
    """Which model, its number of parameters, and the digest of its weights.

    Of a TrojanNet, `sha256` is that of the small network, and `target_sha256` that of the model that it lies beside.
    `origin_sha256` is that of the weights which training went on from, or which were repaired.
    """

    name: str
    parameters: Count | None = None
    sha256: str | None = None
    target_sha256: str | None = None
    origin_sha256: str | None = None


class Cost(Block):
    """What the run cost: seconds of training, the share of them spent attacking (0 to 1), speed, memory in MB.

    Passes of the model in training steps count examples: a forward or a backward pass of a batch of N is N. A robust
    point is one percent of worst-case accuracy.
    """

    train_seconds: Amount | None = None
    attack_share: Fraction | None = None
    samples_per_second: Amount | None = None
    peak_memory_mb: Amount | None = None
    forward_passes: Count | None = None
    backward_passes: Count | None = None
    passes_per_sample: Amount | None = None
    seconds_per_robust_point: Amount | None = None
    passes_per_robust_point: Amount | None = None


class Environment(Block):
    """When it ended (ISO 8601), the git commit of the folder it was started in, versions, platform and device."""

    date: str | None = None
    commit: str | None = None
    python: str | None = None
    torch: str | None = None
    lightning: str | None = None
    robustml: str | None = None
    platform: str | None = None
    device: str | None = None
