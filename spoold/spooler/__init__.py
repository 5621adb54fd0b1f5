"""The spooler: takes what is in the outgoing queue to the transports."""
