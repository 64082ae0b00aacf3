"""The captioner: loading it, rendering a sample for it, letting it write. Shared by `train` and `expand`."""
