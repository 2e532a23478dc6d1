"""Spread an attack over processes: on a CPU, small models are faster in several processes of one thread each.

The processes are forked, so that model and images are shared and nothing is copied; what they find comes back through
shared memory. Examples are dealt out in turn, since hard ones often lie together.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import signal
import sys
from multiprocessing.connection import Connection

import torch
from torch import Generator, Tensor, nn

from robustml.allocator import keep_freed_memory
from robustml.deadline import OutOfTime
from robustml.errors import RunFailed
from robustml.progress import note, shown
from robustml.types import Attack, Threat

# From Linux' prctl.h.
_PR_SET_PDEATHSIG = 1


def available_processes(x: Tensor) -> int:
    """How many processes may work on `x`: one a thread on a CPU that can fork, 1 elsewhere or inside such a process."""
    if x.device.type != "cpu" or not sys.platform.startswith("linux") or multiprocessing.current_process().daemon:
        return 1
    return max(1, min(torch.get_num_threads(), len(x)))


def attack_in_processes(
    attack: Attack, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, generator: Generator, processes: int
) -> Tensor:
    """What `attack` returns for `x` (N, ...), each process working on its share of the examples.

    Args:
        attack: must give an example the same image whatever batch it is in (see `robustml.draws`).
        model: on the CPU.
        x: (N, ...) in [0, 1].
        y: (N,).
        threat: what the attack may do.
        generator: every process goes on from the state it is in; here it is left as it was.
        processes: how many.

    Raises:
        RunFailed: a process was killed. What the attack itself raises is raised here.
    """
    result: Tensor = torch.empty_like(x).share_memory_()  # type: ignore[no-untyped-call]
    context = multiprocessing.get_context("fork")
    workers = []
    for number in range(processes):
        mine = slice(number, None, processes)
        receiver, sender = context.Pipe(duplex=False)

        def work(mine: slice = mine, sender: Connection = sender, first: bool = number == 0) -> None:
            _belong_to_parent()
            torch.set_num_threads(1)
            keep_freed_memory()
            model.to(memory_format=torch.channels_last)  # of this process's copy; wide convolutions gain a third
            try:
                # One of them tells how far it is; the others have about as far to go.
                with shown(sender.send if first else lambda what: None):
                    result[mine] = attack(model, x[mine], y[mine], threat, generator=generator)
                sender.send(None)
            except OutOfTime as stop:
                result[mine] = x[mine] if stop.found is None else stop.found
                sender.send(OutOfTime())
            except Exception as error:
                sender.send(error)

        worker = context.Process(target=work, daemon=True)
        worker.start()
        sender.close()
        workers.append((worker, receiver))
    try:
        errors = [_answer(worker, receiver) for worker, receiver in workers]
    finally:
        for worker, _ in workers:
            worker.terminate()
            worker.join()
    for error in errors:
        if error is not None and not isinstance(error, OutOfTime):
            raise error
    if any(errors):
        raise OutOfTime(result.clone())
    return result.clone()


def _belong_to_parent() -> None:
    """Leave Ctrl-C to the parent, and do not outlive it when it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _answer(worker: multiprocessing.process.BaseProcess, receiver: Connection) -> BaseException | None:
    try:
        while isinstance(answer := receiver.recv(), str):
            note(answer)
    except EOFError:
        worker.join()
        return RunFailed(f"a process of the attack died (exit status {worker.exitcode}): out of memory?")
    known: BaseException | None = answer
    return known
