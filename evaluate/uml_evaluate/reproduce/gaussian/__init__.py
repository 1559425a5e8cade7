"""`uml reproduce gaussian`: the experiment on Gaussian data (paper E.14), which has a trainer of its own."""
