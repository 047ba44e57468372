"""Worker processes on this machine, as a pool for Polymer: started once, reached over Unix sockets, sharing memory."""
