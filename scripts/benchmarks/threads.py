"""How small networks fare beside other work: `python scripts/benchmarks/threads.py --busy 0 1 2`.

PGD-10 on the demo's network in processes of their own, beside as many busy ones as `--busy` says: threads that spin
while they wait for each other, threads that sleep (what the command line sets), and one thread alone. Prints medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

SPIN = "while True: pass"
WORK = """
import time, torch
from robustml import LpBall
from robustml.attacks import PGD
from robustml.models import DigitsCNN
torch.manual_seed(0)
model, x, y = DigitsCNN(), torch.rand(64, 1, 8, 8), torch.randint(0, 10, (64,))
attack, threat = PGD(steps=10), LpBall(p="inf", eps=0.15)
attack(model, x, y, threat)
began = time.perf_counter()
for _ in range(20): attack(model, x, y, threat)
print(time.perf_counter() - began)
"""
WAITS = {
    "threads spin": {"OMP_WAIT_POLICY": "ACTIVE"},
    "as torch has it": {},
    "threads sleep": {"OMP_WAIT_POLICY": "PASSIVE"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    for busy in arguments.busy:
        others = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(busy)]
        try:
            seconds: dict[str, list[float]] = {name: [] for name in WAITS}
            for _ in range(arguments.rounds):
                for name, environment in WAITS.items():
                    done = subprocess.run(
                        [sys.executable, "-c", WORK], env=clean | environment, stdout=subprocess.PIPE, check=True
                    )
                    seconds[name].append(float(done.stdout))
        finally:
            for other in others:
                other.kill()
        for name, each in seconds.items():
            print(f"{busy} busy  {name:<18}{statistics.median(each):6.2f} s")


if __name__ == "__main__":
    main()
