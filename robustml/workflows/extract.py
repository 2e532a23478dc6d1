"""Copy a model through its query interface, measure what the copy is worth, and leave a run directory."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from robustml.attacks import PGD
from robustml.calling import refuse_misfit
from robustml.data import DataModule, stratified_rows
from robustml.errors import RequestError, RunFailed
from robustml.evaluation import evaluate
from robustml.evaluation.batches import Loader
from robustml.evaluation.parameters import attack_generator
from robustml.extraction import (
    Defense,
    EquationSolving,
    Extraction,
    InDomain,
    MakeStudent,
    PoolSource,
    QueriesRefused,
    Reference,
    Victim,
    Watch,
    ask,
    budget_curve,
    honest_use,
    transfer_success,
)
from robustml.models import MLP
from robustml.reporting.tables.extraction import extraction_text
from robustml.results import Cost, DefenseReport, ExtractionPoint, ExtractionResults, Rate, Results, rate
from robustml.say import say
from robustml.types import Attack, Threat
from robustml.workflows.given import data_of
from robustml.workflows.measuring.backdoors import planted_in, shown_on
from robustml.workflows.measuring.judging import peak_memory_mb, tell, write_outcome
from robustml.workflows.measuring.trojans import backdoors_of_model
from robustml.workflows.preparing import introduce, pick_device
from robustml.workflows.reading.weights import describe_model, save_weights
from robustml.workflows.run import Run, load_run
from robustml.workflows.secret import without_secret
from robustml.workflows.settings import CONFIG, write_settings
from robustml.workflows.settings.describing import described
from robustml.workflows.victims import Victims, is_address

COPY = Path("copy.safetensors")
_CPU = torch.device("cpu")
_WHOLE = {"limit": None, "batch_size": 500}


def extract(
    victim: Run | str | Path | Callable[[Tensor], Tensor],
    method: Extraction,
    data: DataModule | Loader | None = None,
    threat: Threat | None = None,
    *,
    out: str | Path,
    budget: int = 1000,
    pool: PoolSource | None = None,
    student: MakeStudent | None = None,
    make_defense: Callable[[], Defense | None] | None = None,
    attack: Attack | None = None,
    curve: Sequence[float] = (0.05, 0.1, 0.25, 0.5, 1.0),
    transfer_limit: int | None = 500,
    which: Literal["best", "last"] = "best",
    timeout: float = 10.0,
    batch_size: int = 64,
    seed: int = 0,
    device: str | None = None,
    name: str = "victim",
    settings: Mapping[str, Any] | None = None,
) -> Results:
    """Ask, copy, measure, and write a directory with the copy, config.yaml, results.json and a report.

    Args:
        victim: a run, the address of an endpoint (``http://<host>:<port>``), or a module or any callable, images
            (N, ...) in [0, 1] to logits (N, C).
        method: how it is copied.
        data: the copy is measured on its test part, and `InDomain` queries are of its training part; a run's own by
            default.
        threat: what adversarial examples of the copy may do; a run's own by default.
        out: the directory to write.
        budget: how many inputs the method may ask. Measuring the copy asks more.
        pool: where queries come from; `InDomain` by default.
        student: gives the copy's architecture; `MLP` by default.
        make_defense: gives a fresh defense of the interface; None for none. Not of an endpoint, which has its own.
        attack: makes adversarial examples of the copy; `PGD` by default.
        curve: shares of the answered queries to make further copies of.
        transfer_limit: attack so many test images, of every class; None for all.
        which: weights of a run.
        timeout: of an endpoint: seconds for a request and its whole answer.
        batch_size: of an endpoint: inputs in one request.
        seed: of everything that is drawn.
        device: where models run; cuda by default where there is one.
        name: of the victim; the results are those of the "copy of" it.
        settings: what config.yaml is to say; by default what was passed here, as far as settings can say it.

    Raises:
        RequestError: something that cannot be, or a victim, student and data that do not fit each other.
        RunFailed: the victim refuses before anything could be measured.
    """
    if isinstance(budget, bool) or not isinstance(budget, int) or budget < 1:
        raise RequestError(f"budget must be a number of queries of at least 1, got {budget!r}")
    if not isinstance(curve, Sequence) or not all(isinstance(s, (int, float)) and 0 < s <= 1 for s in curve):
        raise RequestError(f"curve must list shares of the budget above 0 and up to 1, such as [0.1,0.5]; got {curve}")
    if transfer_limit is not None and transfer_limit < 1:
        raise RequestError(f"transfer_limit must be at least 1, or null for all images; got {transfer_limit}")
    if not isinstance(method, Extraction):
        raise RequestError(f"method must be an extraction, which asks and fits; got a {type(method).__name__}")
    defense = None if make_defense is None else make_defense()
    if defense is not None and not isinstance(defense, Defense):
        raise RequestError(f"defense must change answers or watch them; got a {type(defense).__name__}")
    if isinstance(victim, Path) or (isinstance(victim, str) and not is_address(victim)):
        victim = load_run(victim)
    run = victim if isinstance(victim, Run) else None
    threat = threat if run is None or threat is not None else run.threat
    data = data if run is None or data is not None else run.data
    if data is None or threat is None:
        raise RequestError("extract needs data and a threat, unless it is given a run that has them")
    data = data_of(data)
    make_student = student or (lambda: MLP(data.shape, data.num_classes))
    attack = attack or PGD()
    refuse_misfit(attack, threat)
    where = pick_device(device)
    if defense is not None and is_address(victim):
        raise RequestError(
            "defense= is what an interface of our own does to its answers: that of an endpoint is chosen where it is "
            "started, robustml serve run=<dir> defense=..."
        )
    asked = Victims(victim, data, where, which=which, timeout=timeout, batch_size=batch_size)
    batches = list(data.loader("test", device=where))
    x, y = torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches])
    if not isinstance(method, EquationSolving):
        _try(make_student, x[:1], data)
    # a backdoor in the victim may be copied with it
    planted = [] if run is None else shown_on(planted_in(run.path), data)
    reference = _reference(asked(), x, y, data)
    pool = pool or InDomain()
    queries = pool(data, budget, generator=attack_generator(seed, "pool", _CPU)).to(where)
    if len(queries.x) < budget:
        say(f"the pool holds {len(queries.x):,} inputs, fewer than the budget of {budget:,}")
    right = (reference.labels == y).nonzero().squeeze(1)
    if transfer_limit is not None:
        right = right[stratified_rows(y[right], transfer_limit).to(where)]

    def attempt(defense: Defense | None, shares: Sequence[float]) -> _Attempt:
        """Spend one budget, make the copies of the curve, and attack the undefended victim through the last."""
        interface = asked(budget, defense)
        heard = method.ask(interface, queries, make_student, generator=attack_generator(seed, "queries", _CPU))
        say(f"asked {len(heard):,} of {budget:,} queries")
        stops = [round(share * len(heard)) for share in shares]
        points, copy = budget_curve(method, heard, stops, make_student, reference, seed=seed)
        whole, generator = asked(), attack_generator(seed, "transfer", x.device)

        def answers(x_adv: Tensor) -> Tensor:
            return torch.cat([whole(part) for part in torch.split(x_adv, whole.batch_size)])

        try:
            success = transfer_success(copy, answers, attack, threat, x[right], y[right], generator=generator)
        except QueriesRefused as refusal:
            say(f"transfer success is not known: {refusal}")
            success = rate(0, 0)
        return _Attempt(copy, points, success, interface.alarm_after, interface.queries)

    undefended = attempt(None, curve if defense is None else ())
    found = undefended if defense is None else attempt(defense, curve)
    report = None
    if defense is not None and make_defense is not None:
        report = _defense_report(defense, found, undefended, asked(None, make_defense()), reference)
    by_method = undefended.queries + (found.queries if found is not undefended else 0)
    last = found.points[-1]
    block = ExtractionResults(
        method=type(method).__name__,
        params=_parameters(method),
        pool=type(pool).__name__,
        queries=last.queries,
        budget=budget,
        measuring=asked.queries - by_method,
        counted=asked.counted,
        fidelity=last.fidelity,
        baseline_fidelity=rate(int((reference.labels == reference.labels.mode().values).sum()), len(y)),
        accuracy=last.accuracy,
        victim_accuracy=rate(int((reference.labels == y).sum()), len(y)),
        transfer_success=found.transfer_success,
        curve=found.points if curve else [],
        defense=report,
    )

    copy, out = found.copy, Path(out)
    named = {"_target_": f"{type(copy).__module__}.{type(copy).__name__}"}
    introduce(data, threat, named, copy)
    loader = data.loader("test", device=where)
    results = evaluate(copy, loader, {}, threat, class_names=data.class_names, device=where, examples=0)
    told = {
        **{"name": name, "seed": seed, "victim": victim if run is None else run.path, "which": which},
        **{"budget": budget, "curve": curve, "transfer_limit": transfer_limit, "data": data, "threat": threat},
        **{"method": method, "pool": pool, "attack": attack, "defense": defense},
    }
    write_settings(dict(settings or without_secret(described(told))), out / CONFIG)
    save_weights(copy, out / COPY)
    written = write_outcome(
        out,
        results,
        data,
        {"name": f"copy of {name}", "seed": seed},
        where,
        command="extract",
        model=describe_model(named, copy, out / COPY),
        cost=Cost(peak_memory_mb=peak_memory_mb(where)),
        backdoor=backdoors_of_model(
            asked.model, planted, data, threat, {"limit": None, "batch_size": 500}, where, copy
        ),
        extraction=block,
    )
    say("\n" + extraction_text(block))
    tell(out)
    return written


@dataclass(frozen=True, eq=False)
class _Attempt:
    """One budget spent: the copy, its figures over the budget, and how well it serves to attack the victim."""

    copy: nn.Module
    points: list[ExtractionPoint]
    transfer_success: Rate
    alarm_after: int | None
    queries: int
    """How many inputs the method asked."""


def _reference(victim: Victim, x: Tensor, y: Tensor, data: DataModule) -> Reference:
    """Test inputs with what the undefended victim says of them."""
    heard = ask(victim, x)
    if len(heard) < len(x):
        raise RunFailed(f"the victim refused after {len(heard)} of {len(x)} test images: nothing can be measured")
    classes = heard.answers.shape[1]
    if classes != data.num_classes:
        raise RequestError(f"the victim tells {classes} classes apart, but {data.name} has {data.num_classes}")
    return Reference(x, y, heard.answers)


def _try(make_student: MakeStudent, x: Tensor, data: DataModule) -> None:
    """Refuse a student that cannot take the data's inputs, before any query is spent."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            shape = tuple(make_student().eval().to(x.device)(x).shape)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise RequestError(f"the student cannot take inputs of shape {tuple(x.shape[1:])}: {reason}") from error
    if shape != (1, data.num_classes):
        raise RequestError(
            f"the student returns shape {shape} for one input, expected (1, {data.num_classes}); choose another with "
            "model@student=..."
        )


def _defense_report(
    defense: Defense, defended: _Attempt, undefended: _Attempt, interface: Victim, reference: Reference
) -> DefenseReport:
    """What a defense cost the attacker, and honest users: they ask the test inputs, of an `interface` of their own."""
    # one request, so that a false alarm does not cut short what honest users are told
    answers = interface(reference.x)
    return DefenseReport(
        name=type(defense).__name__,
        params=_parameters(defense),
        undefended=undefended.points[-1],
        undefended_transfer_success=undefended.transfer_success,
        watches=isinstance(defense, Watch),
        alarm_after=defended.alarm_after,
        honest=honest_use(reference.answers, answers, reference.y, interface.alarm_after),
    )


def _parameters(thing: object) -> dict[str, Any]:
    """The settings of a method or a defense, but for its secret."""
    names = [name for name in inspect.signature(type(thing)).parameters if name != "secret" and hasattr(thing, name)]
    values = {name: getattr(thing, name) for name in names}
    return {name: _parameters(value) if is_dataclass(value) else value for name, value in values.items()}
