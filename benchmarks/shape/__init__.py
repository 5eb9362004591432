"""What is left of an erasure that counts only in part of the model or of the steps."""
