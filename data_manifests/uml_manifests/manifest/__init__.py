"""Manifests: the samples of one modality, their files, and the draws that are made of them."""
