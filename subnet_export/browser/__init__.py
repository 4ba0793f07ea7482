"""A page that finds people in the browser: its files, the runtime it loads, and a server that opens it here."""
