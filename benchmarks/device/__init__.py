"""What measures a GPU: whether it is right, and how fast against its best. `gpu` is the command."""
