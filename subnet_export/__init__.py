"""Turn a subnet of a trained supernet into files that run and can be fine-tuned."""
