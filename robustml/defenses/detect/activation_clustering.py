"""Activation clustering: inside a poisoned class, what the trigger put there lies apart from what belongs there.

Chen, Carvalho, Baracaldo, Ludwig, Edwards, Lee, Molloy, Srivastava, "Detecting Backdoor Attacks on Deep Neural Networks
by Activation Clustering", SafeAI 2019, arXiv:1811.03728. The features of each class are reduced to ten dimensions and
parted by 2-means; a class whose clusters are well apart (the silhouette) is poisoned, and the smaller is the poison.

Deviations: PCA in place of ICA, which fails where a class has fewer dimensions than are asked for. The layer is by
default the last one with feature maps and not the last hidden one, in which small networks have forgotten the mark.
2-means begins with the two ends of the first component, so that the order of the records is nothing to it. The paper
looks at silhouettes by eye, and flags by size of the cluster, or by training once more without it. Natural classes
have two clusters, too: with clean records, a class is poisoned where one of its clusters is far rarer among the clean
records of the class (`concentration`), and that cluster is the poison, large or small. Without, where its silhouette
stands out of all classes', by more than `outlying` times their median deviation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from robustml.defenses.detect.concentration import Concentration, concentrations, told
from robustml.defenses.reading import read_maps, require_classes
from robustml.errors import RequestError
from robustml.poisoning.checks import check_number, check_whole
from robustml.progress import track
from robustml.types import Labelled, Suspicion

_LEAST = 10


@dataclass(frozen=True)
class ActivationClustering:
    """Silhouettes of the records in the suspect cluster of a poisoned class, negative in its other one; -1 elsewhere.

    Args:
        layer: whose features are clustered; None is the last one with feature maps (`read_maps`).
        dimensions: that they are reduced to.
        outlying: without clean records, how far a silhouette must stand out (a modified z-score).

    Raises:
        RequestError: an option out of range.
    """

    layer: str | None = None
    dimensions: int = 10
    outlying: float = 3.5

    def __post_init__(self) -> None:
        check_whole(self.dimensions, "activation_clustering.dimensions", "is how many are kept, at least 1", 1)
        check_number(self.outlying, "activation_clustering.outlying", "is a number above 0", 0, above=True)

    def __call__(
        self, model: nn.Module, records: Labelled, clean: Labelled | None = None, *, generator: Generator | None = None
    ) -> Suspicion:
        """A score for each of `records` (N, ...), in [-1, 1]; above 0 lies the cluster that is taken for poison.

        Raises:
            RequestError: no such layer, or no class has ten records.
        """
        require_classes(model, records)
        features, layer = read_maps(model, records.x, self.layer)
        others = None if clean is None else read_maps(model, clean.x, self.layer)[0].flatten(1)
        labels = [label for label, count in enumerate(torch.bincount(records.y).tolist()) if count >= _LEAST]
        if not labels:
            raise RequestError(f"activation clustering needs {_LEAST} records of a class: give it more of them")
        small = torch.zeros(len(records.y), dtype=torch.bool)
        silhouettes = torch.full((len(records.y),), -1.0, dtype=torch.float64)
        clean_small = torch.zeros(0 if clean is None else len(clean.y), dtype=torch.bool)
        for label in track(labels, "classes"):
            own = records.y == label
            theirs = clean.y == label if clean is not None and others is not None else None
            beside = others[theirs] if others is not None and theirs is not None else None
            small[own], silhouettes[own], lying = self._parted(features[own].flatten(1), beside)
            if theirs is not None:
                clean_small[theirs] = lying
        apart = torch.stack([silhouettes[records.y == label].mean() for label in labels])
        if clean is None:
            classes = [Concentration(labels[int(row)], 1, 0, 0) for row in self._outlying(apart)]
            facts: dict[str, object] = {"classes": [each.label for each in classes]}
        else:
            sides = [concentrations(small ^ flip, records.y, clean_small ^ flip, clean.y) for flip in (False, True)]
            for each in sides[1]:  # of this class the larger cluster is the poison
                small[records.y == each.label] ^= True
            classes = sorted(sides[0] + sides[1], key=lambda each: each.clean_share - each.share)
            facts = told(classes)
        suspect = torch.isin(records.y, torch.tensor([each.label for each in classes], dtype=torch.int64))
        scores = torch.where(suspect, torch.where(small, silhouettes, -silhouettes), -1.0)
        facts |= {"layer": layer, "silhouettes": dict(zip(map(str, labels), apart.tolist(), strict=True))}
        return Suspicion(scores, 0.0, records.ids, bool(classes), facts)

    def _parted(self, features: Tensor, beside: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Which features (N, D) of a class are in its smaller cluster, their silhouettes, which of `beside`."""
        from sklearn.cluster import KMeans  # a second
        from sklearn.decomposition import PCA
        from sklearn.metrics import silhouette_samples
        from threadpoolctl import threadpool_limits  # scikit-learn's own

        none = torch.zeros(0 if beside is None else len(beside), dtype=torch.bool)
        reduction = PCA(min(self.dimensions, len(features), features.shape[1]), svd_solver="full")
        reduced = reduction.fit_transform(features.double().numpy())
        first = reduced[:, 0]
        if first.max() - first.min() < 1e-9:  # they are all the same
            return torch.zeros(len(features), dtype=torch.bool), torch.zeros(len(features), dtype=torch.float64), none
        with threadpool_limits(1):  # on sets this small, threads wait for each other more than they work
            clustering = KMeans(2, init=reduced[[first.argmin(), first.argmax()]], n_init=1).fit(reduced)
        smaller = int((clustering.labels_ == 1).mean() < 0.5)
        apart = torch.from_numpy(silhouette_samples(reduced, clustering.labels_))
        if beside is not None and len(beside):
            none = torch.from_numpy(clustering.predict(reduction.transform(beside.double().numpy())) == smaller)
        return torch.from_numpy(clustering.labels_ == smaller), apart, none

    def _outlying(self, apart: Tensor) -> list[int]:
        """The rows of the silhouettes (K,) that stand out of them."""
        deviation = (apart - apart.median()).abs().median().clamp(min=1e-12)
        return torch.nonzero(0.6745 * (apart - apart.median()) / deviation > self.outlying).flatten().tolist()
