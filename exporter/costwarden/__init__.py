"""costwarden keeps AI and cloud spending inside its budget."""

__version__ = "0.1.0"
