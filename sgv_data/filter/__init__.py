"""`sgv filter`: every caption gets scores, every rejection a reason. Captions are never edited."""
