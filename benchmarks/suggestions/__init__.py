"""What Suggest Concepts finds in the pocket model's world, and what erasing what it found does to pictures."""
