"""The outgoing queue: what is stored, and every transaction on it."""
