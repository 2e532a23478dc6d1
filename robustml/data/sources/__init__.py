"""Where sets come from: frozen dataclasses with `load(split) -> Arrays`."""

from robustml.data.sources.csv import Csv
from robustml.data.sources.digits import Digits
from robustml.data.sources.folder import ImageFolder
from robustml.data.sources.parquet import HubImages, ParquetImages

__all__ = ["Csv", "Digits", "HubImages", "ImageFolder", "ParquetImages"]
