"""Training whole networks: a backbone that sees a manifest's samples, and unpaired data beside it.

backbones.py      what is trained: start, frozen layers, checkpoint folder
samples.py        a manifest's samples, read and prepared by processes while the last step is computed
views.py          what a training picture is turned into
manifest_rows.py  a manifest in place of a feature store
whole_network.py  backbones and head of one model as one module
order.py          which samples every step and every evaluation sees
averages.py       a running average of the weights
checkpoints.py    how far a training is, and its state on disk, from which a killed run goes on
steps.py          the training of one model
session.py        networks, samples and auxiliaries of a run, opened
finetuning.py     from settings to a finished run folder
"""
