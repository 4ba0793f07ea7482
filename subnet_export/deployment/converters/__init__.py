"""Programs that another interpreter runs: each converts one file with a converter's own packages, and nothing else."""
