"""The schema of the outgoing queue: numbered SQL files, one chain per dialect (`sqlite/0001_....sql`), read as package data."""
