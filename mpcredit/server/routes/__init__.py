"""One file for each group of routes; each reads a request, calls one use case, and answers."""
