"""The trio edge: sockets, peers, connections, signals."""
