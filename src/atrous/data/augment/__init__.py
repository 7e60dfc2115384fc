"""What happens to an image and its labels on the way into training; randomness is passed in."""
