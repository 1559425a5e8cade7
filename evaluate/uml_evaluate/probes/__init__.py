"""Probes and rivals: classifiers on the rows of a run's draws that `uml train` does not train.

`registry` names them, `cells` fits them on the draws of a run and keeps them in its folder; every other
module is one family.
"""
