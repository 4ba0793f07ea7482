"""Device, precision, processes, machine."""
