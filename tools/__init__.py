"""What the tests, the continuous integration and a developer need in addition to the pack: a ComfyUI to run it in."""
