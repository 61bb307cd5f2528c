"""Around the app: scripts to the browser, runs in turn, limits of what one client may use."""
