"""The kinds of source there are. A new kind is a module with a class like these and a line in `open_source`."""

from __future__ import annotations

from sgv_data.manifest import (
    AnySource,
    FolderSource,
    Img2DatasetSource,
    LlavaSource,
    ParquetSource,
    ScenesSource,
    TableSource,
    WebDatasetSource,
)
from sgv_data.sources.folder import Folder
from sgv_data.sources.source import PictureSource
from sgv_data.sources.webdataset import WebDataset


def open_source(spec: AnySource, seed: int) -> PictureSource:
    """The source that a manifest's `images` entry describes; `seed` is the manifest's."""
    match spec:
        case FolderSource():
            return Folder(spec.path)
        case WebDatasetSource():
            return WebDataset(spec.path)
        case TableSource():
            from sgv_data.sources.table import PathTable

            return PathTable(spec.path, spec.images, spec.path_column, spec.text_column)
        case LlavaSource():
            from sgv_data.sources.llava import Llava

            return Llava(spec.path, spec.images)
        case ParquetSource():
            from sgv_data.sources.parquet import ParquetPictures

            return ParquetPictures(spec.path, spec.image_column, spec.key_column, spec.text_column)
        case Img2DatasetSource():
            from sgv_data.sources.img2dataset import Img2Dataset

            return Img2Dataset(spec.path)
        case ScenesSource():
            from sgv_data.sources.scenes import Scenes

            return Scenes(seed, spec.count)
