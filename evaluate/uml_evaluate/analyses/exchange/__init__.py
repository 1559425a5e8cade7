"""What a sample of another modality is worth, in samples of the target (paper 4.4, E.4)."""
