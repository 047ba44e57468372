"""The engine for one machine: agents are child processes, reached over one Unix socket. The default."""
