"""Everything that training data and weights go through at once, through the real command, killed and resumed."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import torch

import robustml
from integration import sabotage
from integration.files import sha256, untimed_metrics
from integration.forks import Outcome, command

WORDS = (
    "debug=fast",
    "name=extended",
    "model=mlp",
    "trainer.max_epochs=3",
    "trainer.limit_train_batches=1.0",
    "data.train_limit=96",
    "data.replay=2",
    "data/extra=npz",
    "data/extra/labeller=run",
    "data.extra.source.path=extra.npz",
    "data.extra.ratio=0.5",
    "data/mix=cutmix",
    "data.mix.start=0.5",
    "callbacks=[ema,eps_schedule]",
    "callbacks.ema.statistics=examples",
    "attack.steps=2",
    "validation.attack.steps=2",
    "evaluation=clean",
)


def test_a_run_with_all_of_it_resumes_as_if_nothing_had_happened(trained: Outcome, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
    np.savez(tmp_path / "extra.npz", image=images)
    words = [*WORDS, f"data.extra.labeller.run_dir={trained.run}"]
    whole = command("train", *words, "output=whole", cwd=tmp_path)
    assert whole.err == ""
    stopped = command("train", *words, "output=stopped", cwd=tmp_path, before=sabotage.in_the_second_epoch)
    assert stopped.status == -signal.SIGKILL, stopped.out + stopped.err
    (run,) = (tmp_path / "stopped" / "extended").iterdir()
    assert command("train", f"resume={run}", cwd=tmp_path).run == run
    assert sha256(run / "model.safetensors") == sha256(whole.run / "model.safetensors")
    assert untimed_metrics(run) == untimed_metrics(whole.run)
    # three batches of 32, twice, in each of three epochs
    assert [row["step"] for row in untimed_metrics(run)] == ["6", "12", "18"]
    results = [json.loads((folder / "results.json").read_text()) for folder in (run, whole.run)]
    assert results[0]["data"] == results[1]["data"]
    assert results[0]["data"]["extra"] == {"train": 40, "ratio": 0.5}
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    averaged, trained_weights = last["state_dict"], last["current_model_state"]
    assert any(not torch.equal(averaged[name], trained_weights[name]) for name in averaged)
    model = robustml.load_model(run, "last").state_dict()
    assert all(torch.equal(value, averaged[f"model.{name}"]) for name, value in model.items())
    again = command("evaluate", f"run={run}", cwd=tmp_path)
    assert json.loads((again.run / "results.json").read_text())["data"] == results[0]["data"]
