"""A fully connected conditional random field over an image, and the Gaussian filter it uses."""
