"""How a comparison is shown: in words, in tables, in drawings."""
