"""Where sets come from: frozen dataclasses with `load(split) -> Records`."""

from robustml.data.sources.csv import Csv
from robustml.data.sources.embedded import BreastCancer, Digits
from robustml.data.sources.features import ParquetFeatures
from robustml.data.sources.folder import ImageFolder
from robustml.data.sources.npz import NpzImages
from robustml.data.sources.parquet import HubImages, ParquetImages
from robustml.data.sources.subset import Subset
from robustml.data.sources.text import Texts
from robustml.data.sources.tones import Tones

__all__ = [
    "BreastCancer",
    "Csv",
    "Digits",
    "HubImages",
    "ImageFolder",
    "NpzImages",
    "ParquetFeatures",
    "ParquetImages",
    "Subset",
    "Texts",
    "Tones",
]
