"""What a training will take, before it starts: memory and time of the steps of each phase."""
