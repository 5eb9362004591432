"""What a person asked for, in plain values: no ComfyUI here."""
