"""What measures learning: training steps, privacy, inference, utility, and how defaults were tuned."""
