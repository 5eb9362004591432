"""A small Stable Diffusion that is really trained, on a world of drawn shapes, so that erasure is seen and measured."""
