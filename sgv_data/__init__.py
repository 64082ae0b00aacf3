"""sgv_data: caption datasets the ShareGPT4V way, from a folder of pictures to verified shards."""

__all__ = ["__version__"]


def __getattr__(name: str) -> str:
    """`__version__`, looked up when it is asked for: that takes longer than all else here."""
    if name != "__version__":
        raise AttributeError(name)
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("sgv_data")
    except PackageNotFoundError:  # running from a checkout that was never installed
        return "0+uninstalled"
