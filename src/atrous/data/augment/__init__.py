"""Random changes of training images and their labels; the random generator is passed in."""
