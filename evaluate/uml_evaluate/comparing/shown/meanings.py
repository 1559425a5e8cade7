"""What each method and control is, in a few words beside its name."""

from __future__ import annotations

from uml_evaluate.comparing.rows import Arm

_METHODS = {
    "unimodal": "one linear layer on the target's features",
    "ridge": "the same layer, fitted by squared errors",
    "self-training": "ridge, trained on its surest guesses of unlabelled rows, too",
    "prior": "ridge, told by the unpaired data which classes are alike",
    "self-supervised": "the network on sequences without labels",
    "unimodal-deep": "projection and head as uml has, no unpaired data",
    "init-only": "the head starts from the unpaired data's class means",
    "uml": "trained on labelled and unpaired samples together",
    "uml-init": "starts from the class means, and trains on both",
    "auto": "whichever method validated best",
    "textbook": "the better of tuned ridge and logistic regression",
    "logreg": "logistic regression",
    "logreg-sklearn": "logistic regression of scikit-learn",
    "lda": "linear discriminant analysis",
    "ncm": "nearest class mean",
    "knn": "nearest neighbours",
    "zeroshot": "nearest class text, no labels",
    "ridge-text": "ridge on labelled samples and texts",
    "cross-modal": "logistic regression on samples and texts",
    "tip-adapter": "Tip-Adapter: a cache of labelled samples beside zero-shot",
    "tip-adapter-f": "Tip-Adapter, its cache tuned",
    "lp++": "LP++: linear probe blended with class texts",
}
_CONTROLS = {
    "permuted": "its classes swapped: what it says is wrong",
    "random": "random vectors in place of the data",
}


def meaning(arm: Arm) -> str:
    """A few words, nothing for a name that says it itself."""
    method, control = arm
    if control is None:
        return _METHODS.get(method, "")
    return _CONTROLS.get(control, "another data set in its place")
