"""One worst case for a run: what any attack or search of it found on an image counts, wherever it is drawn.

A curve of accuracy against eps looks at (some of) the images that the attacks looked at, and finds more, for it also
searches for the smallest perturbation. What it found inside the threat belongs to the worst case; and what the attacks
found belongs to the curve. Then the two agree on the images that they share.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from robustml.evaluation.curve import CurveResults
from robustml.evaluation.results import RobustnessResults
from robustml.results import Curve, CurvePoint, share


def united(results: RobustnessResults, curve: CurveResults) -> RobustnessResults:
    """The results with what the curve found, and in them the curve with what the attacks found.

    Args:
        results: complete, of the same model and threat, on all images of the curve at least.
        curve: as `accuracy_curve` has it.
    """
    verdicts, eps = results.verdicts, results.threat.eps
    assert verdicts.images is not None
    radii = np.array([point.eps for point in curve.points])
    # Images that are equal to the byte share what is known of any of them.
    found = {
        image: radius
        for radius, image in sorted(zip(curve.smallest, curve.images, strict=True), reverse=True)
        if radius >= 0
    }
    elsewhere = np.array([not found.get(image, np.inf) <= eps * (1 + 1e-9) for image in verdicts.images.tolist()])
    by_attacks = np.full(len(verdicts.y), np.inf)
    for attack in verdicts.attacks.values():
        fooled = verdicts.correct & ~attack.robust
        # An attack may overstep eps by what float32 rounds; and in a cascade it is not shown what others had fooled.
        needed = np.where(attack.distance > 0, np.minimum(attack.distance, eps), eps)
        by_attacks[fooled] = np.minimum(by_attacks[fooled], needed[fooled])
    shared: dict[int, float] = {}
    for image, distance in zip(verdicts.images.tolist(), by_attacks.tolist(), strict=True):
        shared[image] = min(distance, shared.get(image, np.inf))
    places = np.searchsorted(radii * (1 + 1e-9), [shared.get(image, np.inf) for image in curve.images])
    smallest = np.minimum(np.array(curve.smallest), np.append(radii, np.inf)[places])
    return RobustnessResults.of(
        dataclasses.replace(verdicts, elsewhere=elsewhere),
        results.threat,
        [*results.flags, *(flag for flag in curve.flags if flag not in results.flags)],
        results.examples,
        [row.name for row in results.per_class],
        searched=[name for name in curve.attacks if name not in verdicts.attacks],
        curve=Curve(
            attack=curve.attack,
            attacks=list(dict.fromkeys((*curve.attacks, *verdicts.attacks))),
            points=[CurvePoint(eps=point.eps, robust_accuracy=share(smallest > point.eps)) for point in curve.points],
        ),
        corruptions=results.corruptions,
        certified=results.certified,
    )
