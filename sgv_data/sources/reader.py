"""Reading the bytes of indexed pictures again, in any stage and in worker processes."""

from __future__ import annotations

import hashlib

from sgv_data.errors import InputError
from sgv_data.manifest import Manifest
from sgv_data.records import ImageRow
from sgv_data.sources.open import open_source
from sgv_data.sources.source import FilePart, PictureSource


class PictureChanged(InputError):
    """A picture is gone or has other bytes than when it was indexed."""


class PictureReader:
    """Reads from all sources of a manifest. Cheap to make and to pickle."""

    def __init__(self, manifest: Manifest) -> None:
        self._specs = {spec.name: spec for spec in manifest.images}
        self._seed = manifest.seed
        self._open: dict[str, PictureSource] = {}

    def read(self, source_name: str, location: str) -> bytes:
        """The bytes at `location` of a source.

        Raises:
            OSError: if they cannot be read.
            InputError: if there is no such source or location.
        """
        return self._source(source_name).read(location)

    def part(self, source_name: str, location: str) -> FilePart | None:
        """Where the bytes at `location` of a source lie; None where they lie in no file.

        Raises:
            InputError: if there is no such source or location.
        """
        return self._source(source_name).part(location)

    def read_row(self, row: ImageRow) -> bytes:
        """The bytes of an indexed picture, which are those it was indexed with.

        Raises:
            PictureChanged: if they are gone or different.
        """
        try:
            data = self.read(row.source, row.location)
        except OSError as exc:
            raise PictureChanged(f"{row.image_id}: cannot be read any more ({exc.strerror or exc})") from exc
        if hashlib.sha256(data).hexdigest() != row.sha256:
            raise PictureChanged(f"{row.image_id}: has other bytes than when it was indexed; use --redo index")
        return data

    def _source(self, name: str) -> PictureSource:
        source = self._open.get(name)
        if source is None:
            if name not in self._specs:
                raise InputError(f"the manifest has no source {name!r}; was it renamed after indexing?")
            source = self._open[name] = open_source(self._specs[name], self._seed)
        return source
