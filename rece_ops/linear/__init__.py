"""What every method computes with: sums of outer products, solves, directions, subspaces."""
