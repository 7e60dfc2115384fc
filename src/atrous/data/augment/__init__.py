"""What happens to a picture and its labels on the way into training; randomness is passed in."""
