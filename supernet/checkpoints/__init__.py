"""Files of weights: ours, exports, published LitePose; nothing in them is executed."""
