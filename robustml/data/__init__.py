"""Sets of images, tables, texts and waveforms: sources, splits, augmentation and the DataModule."""

from robustml.data.augment import Augmentation, RandomCrop, RandomHorizontalFlip
from robustml.data.cache import Source, cached
from robustml.data.extra import ExtraImages, Mixture
from robustml.data.groups import group_weights, groups_of, resampled
from robustml.data.labels import class_index
from robustml.data.lineage import Lineage, record_digests
from robustml.data.loader import TensorLoader
from robustml.data.mixing import CutMix, Mix
from robustml.data.module import DataModule
from robustml.data.records import Records, record_name
from robustml.data.sources import (
    BreastCancer,
    Csv,
    Digits,
    HubImages,
    ImageFolder,
    NpzImages,
    ParquetFeatures,
    ParquetImages,
    Subset,
    Texts,
    Tones,
)
from robustml.data.splits import stratified_rows, stratified_split

__all__ = [
    "Augmentation",
    "BreastCancer",
    "Csv",
    "CutMix",
    "DataModule",
    "Digits",
    "ExtraImages",
    "HubImages",
    "ImageFolder",
    "Lineage",
    "Mix",
    "Mixture",
    "NpzImages",
    "ParquetFeatures",
    "ParquetImages",
    "RandomCrop",
    "RandomHorizontalFlip",
    "Records",
    "Source",
    "Subset",
    "TensorLoader",
    "Texts",
    "Tones",
    "cached",
    "class_index",
    "group_weights",
    "groups_of",
    "record_digests",
    "record_name",
    "resampled",
    "stratified_rows",
    "stratified_split",
]
