"""The stage `expand`: the captioner describes the pictures."""
