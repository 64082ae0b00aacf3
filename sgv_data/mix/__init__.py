"""Training files in LLaVA's format: captions exchanged in an SFT file, and the file of the pre-training stage."""
