"""What a MODEL needs to be learned with: its loss, layers that can be changed, pictures."""
