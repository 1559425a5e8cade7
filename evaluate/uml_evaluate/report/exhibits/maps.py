"""How a map of features can be made; named here, so that a command line knows them without torch."""

from __future__ import annotations

MAPS = ("pca", "tsne", "umap")
"""`umap` needs the extra `maps`."""
MAP_NAMES = {"pca": "principal components", "tsne": "t-SNE", "umap": "UMAP"}
