"""Labels that contradict what a simple model, which has not seen the record, is sure of.

Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels" (JAIR,
arXiv:1911.00068): a class's threshold is the mean confidence of its records in their own label, out of fold; a record
is off where another class reaches its threshold, and is the likeliest of those that do. Ranked by self-confidence.
`rule="cleanlab"` asks cleanlab (extra ``labels``) for both: given the same probabilities, 2.9.0 calls the same records
off (tests/defenses/test_peers.py).

Here the model is logistic regression over the 64 principal components of what the network under suspicion makes of the
records (or of the inputs); five folds. Found is not decided by the count of records that are off, which grows with what
the simple model cannot tell apart, but by the half of the records that it is surer of. There is little error left in it
where records are hard, and as much as elsewhere where labels are false. Labels are false where it contradicts more than
2 in 100 there, and that rate is at least 3 tenths of the rate in all. Where it errs on a quarter of all, nothing is
said: so hard a set, and one with a quarter of its labels false, look alike; the scores rank records all the same. These
numbers were set on few sets: seeds 0 to 2 of digits, one of MNIST and of CIFAR-10, clean and with 10% flips. On seeds
3 to 5 of digits 10 and 20% of flips were found, 5% were not, and clean ones had no contradiction there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, nn

from robustml.defenses.detect.neighbours import View, check_view, viewed
from robustml.defenses.reading import content_order
from robustml.errors import RequestError, nearest
from robustml.poisoning.checks import check_number, check_whole
from robustml.types import Labelled, Suspicion

_Judged = tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]
_COMPONENTS = 64
# Of the rate of contradictions in all: what must be left in the surer half; and above which rate nothing is said.
_LEFT = 0.3
_HARD = 0.25


@dataclass(frozen=True)
class LabelQuality:
    """Score of a record: 1 less its self-confidence out of fold, and 1 more where confident learning calls it off.

    So every record that is off has a score of at least 1, and no other.

    Args:
        folds: of the cross-validation.
        view: of the model's ``"features"`` or of ``"inputs"``.
        layer: of the features; None is what the last linear layer gets.
        share: found needs more than this share of contradictions in the surer half.
        rule: ``"confident_learning"``, or ``"cleanlab"`` for that of the package, with its label quality scores.

    Raises:
        RequestError: an argument out of range; when called: a class has fewer records than there are folds, there is
            only one class, or no such layer.
    """

    folds: int = 5
    view: View = "features"
    layer: str | None = None
    share: float = 0.02
    rule: Literal["confident_learning", "cleanlab"] = "confident_learning"

    def __post_init__(self) -> None:
        check_view(self.view)
        check_whole(self.folds, "folds", "of the cross-validation must be at least 2", 2)
        check_number(self.share, "share", "of contradictions is in [0, 1]", 0, 1)
        if self.rule not in (rules := ("confident_learning", "cleanlab")):
            raise RequestError(f"there is no rule={self.rule!r}; {nearest(str(self.rule), rules)}")

    def __call__(
        self, model: nn.Module, records: Labelled, clean: Labelled | None = None, *, generator: Generator | None = None
    ) -> Suspicion:
        """Scores (N,); facts: the share of records that are off, and of contradictions in all and in the surer half."""
        present, counts = np.unique(records.y.cpu().numpy(), return_counts=True)
        if len(present) < 2 or counts.min() < self.folds:
            raise RequestError(
                f"label_quality needs 2 classes and {self.folds} records of each, got {len(present)} classes and "
                f"{counts.min() if len(counts) else 0} records of the rarest: add some, or lower folds"
            )
        order = content_order(records)
        rows = viewed(model, records, self.view, self.layer)[order].numpy()
        labels = np.searchsorted(present, records.y[order].cpu().numpy())
        confidence = _out_of_fold(rows, labels, self.folds, int(torch.randint(2**31, (), generator=generator)))
        own, off = (_by_cleanlab if self.rule == "cleanlab" else _by_threshold)(labels, confidence)
        surest = confidence.max(axis=1)
        wrong = confidence.argmax(axis=1) != labels
        error, left = float(wrong.mean()), float(wrong[surest >= np.median(surest)].mean())
        found = left > self.share and left >= _LEFT * error and error < _HARD
        scores = torch.empty(len(labels), dtype=torch.float64)
        scores[order] = torch.from_numpy(1 - own + off)
        facts = {"off": float(off.mean()), "contradicted": error, "surely": left, "view": self.view}
        # the least score of a record that is off is 1, which is not above 1
        return Suspicion(scores, np.nextafter(1.0, 0.0).item(), records.ids, found, facts)


def _by_threshold(labels: npt.NDArray[np.int64], confidence: npt.NDArray[np.float64]) -> _Judged:
    """Self-confidence (N,), and which labels are off (N,)."""
    own = confidence[np.arange(len(labels)), labels]
    usual = np.array([own[labels == label].mean() for label in range(confidence.shape[1])])
    likeliest = np.where(confidence >= usual, confidence, -1).argmax(axis=1)
    return own, (confidence >= usual).any(axis=1) & (likeliest != labels)


def _by_cleanlab(labels: npt.NDArray[np.int64], confidence: npt.NDArray[np.float64]) -> _Judged:
    try:
        from cleanlab.filter import find_label_issues
        from cleanlab.rank import get_label_quality_scores
    except ImportError as error:
        hint = 'pip install "robustml-lightning[labels]"'
        raise RequestError(f"rule=cleanlab needs the package cleanlab: {hint}") from error
    # One process: joblib's would load torch once more each.
    off = find_label_issues(labels, confidence, filter_by="confident_learning", n_jobs=1)
    return get_label_quality_scores(labels, confidence), off


def _out_of_fold(
    rows: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], folds: int, seed: int
) -> npt.NDArray[np.float64]:
    """The probability (N, C) of each class, of a model that has not seen the row."""
    from sklearn.decomposition import PCA  # takes a second, and only this needs it
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    width = min(_COMPONENTS, rows.shape[1], len(rows) * (folds - 1) // folds)
    rows = PCA(width, svd_solver="covariance_eigh").fit_transform(rows)
    split = StratifiedKFold(folds, shuffle=True, random_state=seed)
    model = LogisticRegression(max_iter=200)
    found: npt.NDArray[np.float64] = cross_val_predict(
        model, rows / max(rows.std(), 1e-9), labels, cv=split, method="predict_proba"
    )
    return found
