"""Pre-training of the demo's base model, on drawings of its own in words of its own."""
