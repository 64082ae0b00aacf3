"""sgv_data: caption datasets the ShareGPT4V way, from a folder of pictures to verified shards."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("sgv_data")
except PackageNotFoundError:  # running from a checkout that was never installed
    __version__ = "0+uninstalled"

__all__ = ["__version__"]
