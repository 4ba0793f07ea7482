"""Training one subnet further."""
