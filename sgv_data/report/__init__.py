"""`sgv report`: numbers and pictures of a run on one static page, and the final state of every input."""
