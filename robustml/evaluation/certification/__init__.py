"""Certificates: what no perturbation within a radius can change, by randomised smoothing or interval bounds."""

from robustml.evaluation.certification.certificates import ABSTAINED, Certificates, Certifier
from robustml.evaluation.certification.certify import CertifiedResults, certify, require_norm
from robustml.evaluation.certification.interval_bounds import IntervalBoundPropagation
from robustml.evaluation.certification.smoothing import Smoothing

__all__ = [
    "ABSTAINED",
    "Certificates",
    "CertifiedResults",
    "Certifier",
    "IntervalBoundPropagation",
    "Smoothing",
    "certify",
    "require_norm",
]
