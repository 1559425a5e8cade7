"""What each modality says of the weights that both share: Fisher information and the linear theory (C)."""
