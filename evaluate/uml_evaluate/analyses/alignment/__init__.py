"""How two modalities lie to each other (paper 4.2)."""
