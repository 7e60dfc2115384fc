"""Progress bars and tables for terminals and notebooks."""
