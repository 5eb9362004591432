"""What the tests, the continuous integration and a developer need beside the pack: a ComfyUI to run it in."""
