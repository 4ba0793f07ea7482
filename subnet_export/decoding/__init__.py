"""From exported networks to people without this project: decoding in the graph, its description, and decoders."""
