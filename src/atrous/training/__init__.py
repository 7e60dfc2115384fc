"""The training loop and its parts. The only folder that imports lightning."""
