"""Command lines, consoles and run folders, which all commands share. Only this folder uses Hydra."""
