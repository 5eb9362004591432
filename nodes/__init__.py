"""The nodes a person wires; everything that touches ComfyUI's internals is in `nodes.host`."""
