"""What a repair did to a model: the `repair` block of results.json."""

from __future__ import annotations

from pydantic import Field

from robustml.results.rates import Amount, Block, Count, Fraction, Rate, Settings


class RepairFigures(Block):
    """The figures of a backdoored model.

    `attack_success_rate` and `recovery_accuracy` (triggered inputs read as their true class) are over the inputs that
    the attacker presents, none of the target class; None where no backdoor is known. `robust_accuracy` is that under
    PGD with 10 steps on at most 200 test records; None where the run was never judged under attack.
    """

    clean_accuracy: Rate
    attack_success_rate: Rate | None = None
    recovery_accuracy: Rate | None = None
    robust_accuracy: Rate | None = None


class ConnectionPoint(Block):
    """One point of the path between two models: `t` from 0 (the one) to 1 (the other)."""

    t: Fraction
    clean_accuracy: Rate
    attack_success_rate: Rate | None = None
    robust_accuracy: Rate | None = None
    held_out_accuracy: Fraction | None = None


class Connection(Block):
    """The path that mode connectivity found between two models, and the straight line beside it.

    `chosen` is the t that is kept, by the `held_out_accuracy` of clean records alone.
    """

    chosen: Fraction
    curve: list[ConnectionPoint]
    line: list[ConnectionPoint] = Field(default_factory=list)


class Repair(Block):
    """A model before and after a repair, and its clean twin likewise.

    Attributes:
        method: which.
        params: its settings.
        before: the model as it was.
        after: the repaired one.
        twin: the clean twin, where there is one.
        twin_after: that, repaired alike: what the repair costs a model that has nothing to be repaired.
        fine_tuning: plain fine-tuning on the same clean records: whatever is cleverer has to beat it.
        reactivated_attack_success_rate: of the repaired model, fine-tuned on `reactivation_records` poisoned records
            (arXiv:2410.09838): a low success rate is not removal.
        twin_reactivated_attack_success_rate: the same of the repaired twin: what so many records plant anew.
        searched_attack_success_rate: of the repaired model, under a trigger that was searched for near the old one.
        twin_searched_attack_success_rate: the same search on the repaired twin.
        poison_rate: of the training set, in which the backdoor was planted.
        clean_images: how many the repair used.
        seconds: it took, the measuring left out.
        connection: the path, of mode connectivity.
    """

    method: str
    params: Settings = Field(default_factory=dict)
    before: RepairFigures
    after: RepairFigures
    twin: RepairFigures | None = None
    twin_after: RepairFigures | None = None
    fine_tuning: RepairFigures | None = None
    reactivated_attack_success_rate: Rate | None = None
    twin_reactivated_attack_success_rate: Rate | None = None
    reactivation_records: Count = 0
    searched_attack_success_rate: Rate | None = None
    twin_searched_attack_success_rate: Rate | None = None
    poison_rate: Amount | None = None
    clean_images: Count
    seconds: Amount
    connection: Connection | None = None
