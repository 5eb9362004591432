"""What the nodes do, one module a job."""
