"""What an institution and the supervisor run every day: the server, its store, its worker and its pages."""
