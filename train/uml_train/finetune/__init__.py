"""Training whole networks: a backbone that sees a manifest's samples, and unpaired data beside it.

backbones.py    what is trained: start, frozen layers, checkpoint folder
data.py         a manifest's rows, read and prepared by worker processes while the last step is computed
views.py        what a training picture is turned into
steps.py        the network of one model and its training steps
checkpoints.py  a model's state on disk, from which a killed run goes on
run.py          from settings to a finished run folder
"""
