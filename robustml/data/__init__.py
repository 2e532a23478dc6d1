"""Sets of images and tables: sources, splits, augmentation and the DataModule."""

from robustml.data.arrays import Arrays
from robustml.data.augment import Augmentation, RandomCrop, RandomHorizontalFlip
from robustml.data.cache import Source, cached
from robustml.data.loader import TensorLoader
from robustml.data.module import DataModule
from robustml.data.sources import Csv, Digits, HubImages, ImageFolder, ParquetImages
from robustml.data.splits import stratified_split

__all__ = [
    "Arrays",
    "Augmentation",
    "Csv",
    "DataModule",
    "Digits",
    "HubImages",
    "ImageFolder",
    "ParquetImages",
    "RandomCrop",
    "RandomHorizontalFlip",
    "Source",
    "TensorLoader",
    "cached",
    "stratified_split",
]
