"""Stage `index`: one row per input picture, usable or rejected, and who is to describe it."""
