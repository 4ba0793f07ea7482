"""Prediction: finds people in images, videos and cameras with an exported model, and writes, draws and shows them."""
