"""Bytes to pixels to bytes: safe opening, encoding, hashes. Nothing here reads or writes files."""
