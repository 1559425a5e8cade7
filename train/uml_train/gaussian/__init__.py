"""The paper's Gaussian experiment (E.14): data and networks. `uml reproduce gaussian` runs it."""
