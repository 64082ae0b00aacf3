"""Where pictures come from: one module per kind of source, opened by `open.py`."""
