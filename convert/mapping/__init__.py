"""Which tensor of the source becomes which tensor of the checkpoint."""
