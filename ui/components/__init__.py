"""Elements in HTML, CSS and JavaScript, each in its own folder."""
