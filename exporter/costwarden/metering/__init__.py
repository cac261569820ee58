"""From what a provider answers to the quantities that it bills."""
