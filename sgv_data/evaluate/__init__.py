"""Scores of a model on MME and MMBench, computed from its answers as the official tools compute them."""
