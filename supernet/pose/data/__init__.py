"""The dataset protocol, its wrappers, image decoding."""
