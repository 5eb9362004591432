"""What looks for a concept in pictures, one module each, behind one protocol."""
