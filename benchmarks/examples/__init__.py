"""What a concept given by examples is worth on the pocket model, next to its bare word."""
