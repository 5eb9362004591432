"""Hours of mixed graphs on a real server."""
