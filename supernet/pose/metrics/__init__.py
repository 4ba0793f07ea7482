"""OKS and average precision."""
