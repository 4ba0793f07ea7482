"""What all commands share; Hydra stops here."""
