"""The stage `train`: the captioner learns from the teacher's kept captions."""
