"""The only code that touches `comfy`: reads MODEL and CLIP, turns an ERASER into patches and files."""
