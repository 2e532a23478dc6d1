"""What somebody does in a notebook, run by a test: the code of README, then a network, loader and attack of his own."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import torch
from torch import Generator, Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

import robustml
from robustml.extraction import Knockoff, Noise, StudentTraining
from robustml.poisoning import BadNets, Square
from robustml.results import read_results

ROOT = Path(__file__).parents[2]


class Net(nn.Module):
    """The user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Halves(Dataset[tuple[Tensor, int]]):
    """Pictures that are bright in the left half, or in the right."""

    def __len__(self) -> int:
        return 80

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if index >= 80:
            raise IndexError(index)
        image = torch.rand(1, 4, 4, generator=Generator().manual_seed(index)) * 0.5
        image[..., 2 * (index % 2) : 2 * (index % 2) + 2] += 0.4
        return image, index % 2


def dark(model: nn.Module, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> Tensor:
    """The user's own attack, a plain function."""
    return (x - 0.2).clamp(0, 1)


def main() -> None:
    code = re.search(r"```python\n(import robustml, torch\n.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert code is not None
    exec(code[1], {})

    threat = robustml.LpBall("inf", 0.2)
    run = run_of_halves = robustml.fit(
        Net(), Halves(), None, threat, out="runs/own", epochs=3, attacks={"dark": dark}, seed=1
    )
    assert run.results.experiment == "own"
    assert list(run.results.attacks) == ["dark"]
    found = robustml.evaluate(run, attacks=dark, out="runs/own/again")
    assert found.worst_case.robust_accuracy.value == run.results.worst_case.robust_accuracy.value
    assert (Path("runs/own/again") / "report.html").is_file()

    again = robustml.load_run("runs/own", model=Net(), data=run.data)
    images = torch.stack([Halves()[row][0] for row in range(8)])
    assert torch.equal(again.model(images), run.model(images))
    assert again.threat == threat
    assert robustml.evaluate(again, attacks=dark).worst_case == found.worst_case
    for refused in (lambda: robustml.load_model("runs/own"), lambda: robustml.load_run("runs/own", nn.Linear(2, 2))):
        try:
            refused()
        except robustml.errors.RequestError as error:
            print("refused:", error)
    assert isinstance(robustml.load_model("runs/own", trust="__main__"), Net)

    # the user's own loader, whose batches are trained on, and a model that was never in a run
    train, test = (Subset(Halves(), rows) for rows in (range(60), range(60, 80)))
    loader = DataLoader(train, batch_size=20, shuffle=True)
    run = robustml.fit(Net(), loader, None, threat, out="runs/loaded", test=test, epochs=2, attacks={"dark": dark})
    assert run.results.data.test == 20
    alone = robustml.evaluate(run.model, test, {"dark": dark}, threat, out="runs/alone")
    assert alone.worst_case.robust_accuracy.value == run.results.worst_case.robust_accuracy.value

    # what an attacker plants in the training part: as a set for use elsewhere, and in a run, which shows it afterwards
    badnets = BadNets(Square(size=1), rate=0.2, target=1)
    plan = robustml.poison(Halves(), badnets, out="runs/own_set", seed=3)
    assert plan.summary.poisoned == len(plan.after)
    assert {path.name for path in Path("runs/own_set").iterdir()} >= {"train.parquet", "test.parquet", "poison.parquet"}
    assert robustml.poison(Halves(), badnets, out="runs/own_set", seed=3).poisoned_sha256 == plan.poisoned_sha256
    planted = robustml.fit(
        Net(), Halves(), None, threat, out="runs/planted", epochs=1, attacks={}, poison=badnets, seed=1
    )
    assert planted.results.backdoor.kind == "badnets"
    assert torch.equal(planted.data.train.x, run_of_halves.data.train.x)  # clean: the plan alone tells of the poison
    shown = robustml.evaluate(planted, attacks={})
    assert shown.backdoor.attack_success_rate == planted.results.backdoor.attack_success_rate
    assert str(shown).split("\n")[2].startswith("backdoor success")
    assert "<td>clean</td>" in planted._repr_html_()
    saved = read_results(shown.save("runs/planted/shown"))
    assert (saved.data, saved.model.sha256) == (planted.results.data, planted.results.model.sha256)
    for page in (shown.report("runs/pages/shown.html"), planted.report("runs/pages")):
        assert "badnets" in page.read_text()
    assert robustml.evaluate(planted, attacks={}, out="runs/planted/again").worst_case is not None

    # a figure against another
    frame = robustml.sweep(
        lambda out, eps: robustml.evaluate(again, attacks=dark, threat=robustml.LpBall("inf", eps), out=out),
        {"eps": (0.2, 0.3)},
        out="runs/sweep",
    )
    assert sorted(frame["test_eps"].unique()) == [0.2, 0.3]

    # a copy of it, and a TrojanNet beside it
    method = Knockoff(training=StudentTraining(steps=20))
    sizes = {"budget": 30, "curve": (0.5, 1.0), "transfer_limit": 10}
    copied = robustml.extract(run.model, method, Halves(), threat, out="runs/copy", pool=Noise(), **sizes)
    assert [point.queries for point in copied.extraction.curve] == [15, 30]
    assert copied.extraction.victim_accuracy.n == 16
    trojaned = robustml.trojan(again, out="runs/own/trojans/1", steps=5)
    assert trojaned.backdoor.kind == "trojannet"
    print("hydra:", sorted(name for name in sys.modules if name.partition(".")[0] in ("hydra", "hydra_plugins")))


if __name__ == "__main__":
    main()
