"""The learning side of an institution: backbone, data, FedAPT, DP-SGD on the text features."""
