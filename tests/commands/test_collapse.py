"""Results of a training whose collapse was only warned of."""

from __future__ import annotations

from pathlib import Path

from robustml.workflows.measuring.training_flags import collapse_flags

HEALTH = """epoch,step,clean_accuracy,fgsm_accuracy,pgd_accuracy,gradient_alignment,constant_accuracy,healthy,action
0,100,0.7,0.5,0.45,0.95,0.1,1,
0,200,0.8,0.6,0.5,0.9,0.1,1,
1,300,0.9,0.9,0.03,,0.1,0,{first}
1,400,0.95,0.95,0.01,0.1,0.1,0,{second}
"""


def test_results_are_flagged_where_a_collapse_was_only_warned_of(tmp_path: Path) -> None:
    table = tmp_path / "health.csv"
    assert collapse_flags(table) == []
    for first, second in (("rollback", "stop"), ("warn", "")):  # dealt with; recovered
        table.write_text(HEALTH.format(first=first, second=second))
        assert collapse_flags(table) == []
    table.write_text(HEALTH.format(first="warn", second="warn"))
    (flag,) = collapse_flags(table)
    assert flag.name == "catastrophic_overfitting"
    said = "at step 300 (epoch 2) of training, 90.0% of a training batch withstood FGSM and 3.0% a short PGD"
    assert said in flag.message
