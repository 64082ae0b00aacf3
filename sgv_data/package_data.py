"""Files that come with sgv_data: prompts, manifests, and the demo's pictures and base model."""

from __future__ import annotations

from pathlib import Path

from sgv_data.errors import ManifestError

_PACKAGE = Path(__file__).parent

# `sgv:NAME` in a manifest means one of these.
_ASSETS = {"photos": _PACKAGE / "demo" / "assets" / "photos", "base": _PACKAGE / "demo" / "assets" / "base"}


def packaged_folder(name: str) -> Path:
    """`prompts` or `manifests`, in an installed package or in a checkout."""
    installed = _PACKAGE / f"_{name}"
    return installed if installed.is_dir() else _PACKAGE.parent / name


def resolve_asset(value: str) -> Path:
    """The folder that `sgv:NAME` means.

    Raises:
        ManifestError: if nothing of that name comes with the project.
    """
    name = value.removeprefix("sgv:")
    if name not in _ASSETS:
        raise ManifestError(f"{value!r}: sgv_data ships no {name!r}; it ships {', '.join(sorted(_ASSETS))}")
    return _ASSETS[name]
