"""How a comparison is shown: in a sentence, in tables, in drawings."""
