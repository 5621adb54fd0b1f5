"""What an application uses to submit mail, withdraw it and watch it: Spool without an event loop, AsyncSpool with one.

moment        times as people and programs give them
submitting    a message with its options, checked
operations    everything that both do, written once
joining       the application's own connection and transaction
spool         Spool
aspool        AsyncSpool
forking       a Spool survives os.fork
doorbell      wakes the spoolers; a hint
liveness      whether a spooler lives
"""
