"""An example package that adds an encoder, a data set and an analysis to uml."""
