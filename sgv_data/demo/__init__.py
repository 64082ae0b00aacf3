"""The demo: pictures drawn with known truth, and what is needed to run the pipeline on them."""
