"""Which value a setting has under each protocol, and which hyperparameters a grid searches."""
