"""Graphs of deployed networks: ONNX, in 16 bits too, and LiteRT, written layer by layer as blocks for tables are."""
