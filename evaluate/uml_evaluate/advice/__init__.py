"""Will this unpaired data help? Estimates from the training rows alone, before anything is trained."""
